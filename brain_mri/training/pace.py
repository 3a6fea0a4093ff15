"""How long a run is and how often it reports, so that a folder of some hundred images is trained on as well."""

from __future__ import annotations

import logging
import math

from transformers import TrainingArguments
from transformers.trainer_utils import IntervalStrategy

from brain_mri.arguments import TRAINING_DEFAULTS, RecipeArguments

logger = logging.getLogger(__name__)
_LOGGED = 20  # points of a training curve, at least


def set_pace(args: TrainingArguments, recipe: RecipeArguments, images: int) -> None:
    """Raise the number of epochs to `recipe.min_steps`, and log often enough for a curve.

    Evaluations and checkpoints of every epoch become as many as the recipe has epochs, evenly spread: of a small folder
    an epoch is a few steps.

    Args:
        args: changed in place; `max_steps`, where it is given, is kept.
        recipe: with `min_steps`.
        images: that an epoch draws.
    """
    if args.max_steps > 0:
        _log_often(args, args.max_steps)
        return
    each = _steps_of_an_epoch(args, images)
    epochs = args.num_train_epochs
    if math.ceil(each * epochs) < recipe.min_steps:
        args.num_train_epochs = float(math.ceil(recipe.min_steps / each))
        steps = math.ceil(each * args.num_train_epochs)
        _spread(args, math.ceil(steps / max(1.0, epochs)))
        logger.info(
            f"{images:,} images make {each} steps an epoch: {args.num_train_epochs:g} epochs instead of {epochs:g}, "
            f"{steps} steps (--min_steps {recipe.min_steps}; 0: the epochs alone count)"
        )
    _log_often(args, math.ceil(each * args.num_train_epochs))


def _steps_of_an_epoch(args: TrainingArguments, images: int) -> int:
    batch: int = args.train_batch_size * args.world_size
    batches = images // batch if args.dataloader_drop_last else math.ceil(images / batch)
    return max(1, math.ceil(batches / int(args.gradient_accumulation_steps)))


def _spread(args: TrainingArguments, every: int) -> None:
    for name in ("eval", "save"):
        if getattr(args, f"{name}_strategy") == IntervalStrategy.EPOCH:
            setattr(args, f"{name}_strategy", IntervalStrategy.STEPS)
            setattr(args, f"{name}_steps", every)


def _log_often(args: TrainingArguments, steps: int) -> None:
    if args.logging_steps == TRAINING_DEFAULTS["logging_steps"]:  # else it was asked for
        args.logging_steps = min(args.logging_steps, max(1, steps // _LOGGED))
