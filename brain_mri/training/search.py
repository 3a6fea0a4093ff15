"""Hyper-parameter search with Optuna, scored on the validation split."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from accelerate.utils import broadcast_object_list
from datasets import DatasetDict
from optuna.samplers import TPESampler
from transformers import PreTrainedModel, TrainingArguments

from brain_mri.arguments import ModelArguments, RecipeArguments
from brain_mri.data.transforms import Preprocessing
from brain_mri.models.build import build_config, build_model
from brain_mri.training.build import build_trainer
from brain_mri.training.teacher import Teacher

if TYPE_CHECKING:
    import optuna

logger = logging.getLogger(__name__)

_BATCH_SIZES = (16, 32, 64)


def _space(trial: optuna.Trial) -> dict[str, Any]:
    """The search space; `model_init` reads `drop_rate` from the trial."""
    trial.suggest_float("drop_rate", 0.0, 0.5)
    return {
        "learning_rate": trial.suggest_float("learning_rate", 1e-5, 3e-3, log=True),
        "weight_decay": trial.suggest_float("weight_decay", 1e-5, 0.1, log=True),
        "per_device_train_batch_size": trial.suggest_categorical("per_device_train_batch_size", _BATCH_SIZES),
    }


def search(
    model_args: ModelArguments,
    label_names: Sequence[str],
    splits: DatasetDict,
    preprocessing: Preprocessing,
    recipe: RecipeArguments,
    args: TrainingArguments,
    teacher: Teacher | None = None,
) -> tuple[ModelArguments, TrainingArguments]:
    """Try `recipe.search_trials` settings; returns the arguments with the best one.

    Each trial is a whole training with the run's own schedule, without checkpoints. The objective is
    `args.metric_for_best_model` (default: macro-F1) on the validation split, after the last epoch.
    """

    def model_init(trial: optuna.Trial | None = None) -> PreTrainedModel:
        drop_rate = trial.params.get("drop_rate") if trial is not None else None
        tried = model_args if drop_rate is None else replace(model_args, drop_rate=drop_rate)
        return build_model(build_config(tried), tried, label_names)

    metric = args.metric_for_best_model or "macro_f1"
    key = metric if metric.startswith("eval_") else f"eval_{metric}"
    trial_args = replace(args, save_strategy="no", load_best_model_at_end=False, report_to="none", run_name="search")
    trainer = build_trainer(None, splits, preprocessing, recipe, trial_args, model_init, teacher)
    best = trainer.hyperparameter_search(
        backend="optuna",
        hp_space=_space,
        n_trials=recipe.search_trials,
        direction="minimize" if key.endswith(("loss", "nll")) else "maximize",
        compute_objective=lambda scores: scores[key],
        sampler=TPESampler(seed=args.seed),  # a resumed run searches again and must find the same
    )
    # optuna runs in the first process only
    (found,) = broadcast_object_list([dict(best.hyperparameters) if best else None])
    if best:
        logger.info("best of %d trials: %s %.4f with %s", recipe.search_trials, key, best.objective, found)
    model_args = replace(model_args, drop_rate=found.pop("drop_rate"))
    return model_args, replace(args, **found)
