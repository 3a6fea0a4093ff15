"""Hyper-parameter search with Optuna, scored on the validation split; it is kept on disk and goes on after a stop."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from datasets import DatasetDict
from optuna.samplers import TPESampler
from optuna.trial import TrialState
from transformers import PreTrainedModel, TrainingArguments

from brain_mri.arguments import ModelArguments, RecipeArguments
from brain_mri.data.transforms import Preprocessing
from brain_mri.model_folder import SEARCH, SEARCH_PLOT
from brain_mri.models.build import build_config, build_model
from brain_mri.reporting import plots
from brain_mri.training.build import build_trainer, images_drawn
from brain_mri.training.teacher import Teacher
from brain_mri.training.trainer import MRITrainer

logger = logging.getLogger(__name__)

_BATCH_SIZES = (16, 32, 64)
_LOWER_IS_BETTER = ("loss", "nll")


def search_begun(folder: Path) -> str | None:
    """Where a model folder keeps a search, as a path for `identity.settle`; None without one."""
    return str(folder / SEARCH) if (folder / SEARCH).is_file() else None


def search(
    model_args: ModelArguments,
    label_names: Sequence[str],
    splits: DatasetDict,
    preprocessing: Preprocessing,
    recipe: RecipeArguments,
    args: TrainingArguments,
    folder: Path,
    teacher: Teacher | None = None,
) -> tuple[ModelArguments, TrainingArguments]:
    """Try `recipe.search_trials` settings; returns the arguments with the best one.

    Each trial is a whole training with the run's own schedule, without checkpoints. The objective is
    `args.metric_for_best_model` (default: macro-F1) on the validation split, after the last epoch. Each finished trial
    is kept in `search.db` of the model folder, and not tried again; `search.png` shows them.
    """

    def model_init(trial: optuna.Trial | None = None) -> PreTrainedModel:
        drop_rate = trial.params.get("drop_rate") if trial is not None else None
        tried = model_args if drop_rate is None else replace(model_args, drop_rate=drop_rate)
        return build_model(build_config(tried), tried, label_names)

    metric = args.metric_for_best_model or "macro_f1"
    key = metric if metric.startswith("eval_") else f"eval_{metric}"
    trial_args = replace(args, save_strategy="no", load_best_model_at_end=False, report_to="none", run_name="search")
    trainer = build_trainer(None, splits, preprocessing, recipe, trial_args, model_init, teacher)
    sizes = _batch_sizes(args, images_drawn(splits["train"], recipe))
    study = _open_study(folder, key, sizes)
    (done,) = broadcast_object_list([_finished(study)])
    for number in range(done, recipe.search_trials):
        _try(trainer, key, sizes, folder, number)
    found = _best(study, folder, key)
    model_args = replace(model_args, drop_rate=found.pop("drop_rate"))
    return model_args, replace(args, **found)


def _batch_sizes(args: TrainingArguments, images: int) -> tuple[int, ...]:
    """Those of which an epoch has a whole batch; without any, the run's own, with which it can step."""
    fitting = tuple(size for size in _BATCH_SIZES if size * args.world_size <= images or not args.dataloader_drop_last)
    return fitting or (args.per_device_train_batch_size,)


def _study(folder: Path, key: str, sizes: tuple[int, ...]) -> dict[str, Any]:
    """How Optuna finds the study; its name holds what makes trials comparable."""
    return {
        "storage": f"sqlite:///{(folder / SEARCH).resolve()}",
        "study_name": f"{key}, batches of {sizes}",
        "load_if_exists": True,
        "direction": "minimize" if key.endswith(_LOWER_IS_BETTER) else "maximize",
    }


def _open_study(folder: Path, key: str, sizes: tuple[int, ...]) -> optuna.Study | None:
    """The study, in the main process, which alone writes."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(**_study(folder, key, sizes)) if PartialState().is_main_process else None


def _finished(study: optuna.Study | None) -> int:
    """How many trials were judged; one that was cut short is tried again."""
    return 0 if study is None else len(study.get_trials(deepcopy=False, states=[TrialState.COMPLETE]))


def _try(trainer: MRITrainer, key: str, sizes: tuple[int, ...], folder: Path, number: int) -> None:
    """One trial. Its draws depend on the seed, its number and the trials before, so a search that goes on is exact."""
    worst = np.inf if key.endswith(_LOWER_IS_BETTER) else -np.inf

    def space(trial: optuna.Trial) -> dict[str, Any]:
        trial.suggest_float("drop_rate", 0.0, 0.5)  # `model_init` reads it from the trial
        return {
            "learning_rate": trial.suggest_float("learning_rate", 1e-5, 3e-3, log=True),
            "weight_decay": trial.suggest_float("weight_decay", 1e-5, 0.1, log=True),
            "per_device_train_batch_size": trial.suggest_categorical("per_device_train_batch_size", sizes),
        }

    trainer.hyperparameter_search(
        backend="optuna",
        hp_space=space,
        n_trials=1,
        compute_objective=lambda scores: scores[key] if np.isfinite(scores[key]) else worst,  # it diverged
        sampler=TPESampler(seed=trainer.args.seed + number),
        **_study(folder, key, sizes),
    )


def _best(study: optuna.Study | None, folder: Path, key: str) -> dict[str, Any]:
    """The best settings, in all processes; the main one draws the trials."""
    found: dict[str, Any] = {}
    if study is not None:
        values = [trial.value for trial in study.trials if trial.value is not None]
        plots.search_trials(values, not key.endswith(_LOWER_IS_BETTER), key, folder / SEARCH_PLOT)
        found = dict(study.best_params)
        logger.info("best of %d trials: %s %.4f with %s", len(values), key, study.best_value, found)
    (best,) = broadcast_object_list([found])
    return dict(best)
