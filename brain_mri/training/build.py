"""Building the trainer from the arguments; contradictory options are refused first."""

from __future__ import annotations

import logging
from collections.abc import Callable

from datasets import Dataset, DatasetDict
from transformers import EarlyStoppingCallback, EvalPrediction, PreTrainedModel, TrainingArguments

from brain_mri.arguments import RecipeArguments
from brain_mri.data.prepare import boxed_images
from brain_mri.data.training_images import DRAW_GROUP
from brain_mri.data.transforms import Collator, Preprocessing
from brain_mri.errors import ConfigError
from brain_mri.metrics.scores import quick_scores
from brain_mri.training.frozen import FEATURES, TAUGHT, collate
from brain_mri.training.pace import set_pace
from brain_mri.training.teacher import Teacher
from brain_mri.training.trainer import MRITrainer

logger = logging.getLogger(__name__)


def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """Accuracy, balanced accuracy, macro-F1 and negative log-likelihood of a validation pass."""
    return quick_scores(prediction.predictions, prediction.label_ids)


def build_trainer(
    model: PreTrainedModel | None,
    splits: DatasetDict,
    preprocessing: Preprocessing,
    recipe: RecipeArguments,
    args: TrainingArguments,
    model_init: Callable[..., PreTrainedModel] | None = None,
    teacher: Teacher | None = None,
) -> MRITrainer:
    """A trainer on `splits["train"]`, evaluated on `splits["validation"]`; it never gets the test split.

    The `teacher` that `recipe` names is given loaded.
    """
    args.remove_unused_columns = False  # the columns are chosen here; the model's forward has other names
    drawn = images_drawn(splits["train"], recipe)
    _check(recipe, args, drawn)
    set_pace(args, recipe, drawn)
    callbacks = []
    if recipe.early_stopping_patience:
        callbacks.append(EarlyStoppingCallback(recipe.early_stopping_patience))
    cached = FEATURES in splits["train"].column_names
    columns = [FEATURES, "shape", "label"] if cached else ["pixels", "label"]
    taught = [TAUGHT] if TAUGHT in splits["train"].column_names else []
    grouped = DRAW_GROUP in splits["train"].column_names
    guiding = ["box"] if recipe.is_guided and _any_box(splits["train"]) else []
    return MRITrainer(
        model=model,
        model_init=model_init,
        args=args,
        train_dataset=splits["train"].select_columns(columns + guiding + taught),
        eval_dataset=splits["validation"].select_columns(columns),
        data_collator=collate if cached else Collator(preprocessing.size),
        processing_class=preprocessing.processor,
        compute_metrics=compute_metrics,
        callbacks=callbacks,
        recipe=recipe,
        preprocessing=preprocessing,
        teacher=teacher,
        label_ids=splits["train"]["label"][:],
        draw_groups=splits["train"][DRAW_GROUP][:] if grouped else None,
    )


def images_drawn(train: Dataset, recipe: RecipeArguments) -> int:
    """How many images an epoch draws."""
    by_cluster = recipe.draw_by == "cluster" and DRAW_GROUP in train.column_names
    return len(set(train[DRAW_GROUP][:])) if by_cluster else len(train)


def _check(recipe: RecipeArguments, args: TrainingArguments, images: int) -> None:
    """Refuse what transformers would fail on, or silently do differently, without naming the option.

    Raises:
        ConfigError: options that contradict each other, the machine or the data.
    """
    if args.n_gpu > 1:
        raise ConfigError(
            f"{args.n_gpu} GPUs and one process: start `accelerate launch --multi_gpu --num_processes {args.n_gpu} "
            "train.py ...`, or choose one GPU with CUDA_VISIBLE_DEVICES=0."
        )
    if recipe.early_stopping_patience and args.metric_for_best_model is None:
        raise ConfigError("--early_stopping_patience needs --metric_for_best_model, macro_f1 for instance.")
    batch = args.train_batch_size * args.world_size
    if args.dataloader_drop_last and images < batch:
        raise ConfigError(
            f"{images} training images are fewer than one batch of {batch}, and --dataloader_drop_last drops the "
            "incomplete batch: lower --per_device_train_batch_size."
        )


def _any_box(rows: Dataset) -> bool:
    boxes = boxed_images(rows)
    if boxes:
        logger.info("guided training: %d of %d training images have a box", boxes, len(rows))
    else:
        logger.info("no boxes.csv: training without guidance")
    return boxes > 0
