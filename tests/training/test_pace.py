from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.small_training import training_arguments

from brain_mri.arguments import RecipeArguments
from brain_mri.training.pace import set_pace


def _paced(tmp_path: Path, images: int, min_steps: int = 160, **options: Any) -> Any:
    given = {"num_train_epochs": 3, "eval_strategy": "epoch", "save_strategy": "epoch", "logging_steps": 20}
    sizes = {"per_device_train_batch_size": 32, "dataloader_drop_last": True, "max_steps": -1}
    args = training_arguments(tmp_path, **(given | sizes | options))
    set_pace(args, RecipeArguments(min_steps=min_steps), images)
    return args


def test_a_small_folder_is_trained_for_the_least_number_of_steps(tmp_path: Path) -> None:
    args = _paced(tmp_path, images=144)
    assert args.num_train_epochs == 40  # of 4 steps each
    assert (args.eval_strategy, args.save_strategy) == ("steps", "steps")
    assert args.eval_steps == args.save_steps == 54  # as many evaluations as the recipe has epochs
    assert args.logging_steps == 8


def test_a_large_folder_keeps_the_recipe(tmp_path: Path) -> None:
    args = _paced(tmp_path, images=4600)
    assert args.num_train_epochs == 3 and args.eval_strategy == "epoch" and args.logging_steps == 20


@pytest.mark.parametrize(
    ("options", "steps"), [({"max_steps": 7}, 1), ({"min_steps": 0}, 1), ({"logging_steps": 50}, 50)]
)
def test_a_short_run_is_logged_often_enough_for_a_curve_unless_told_otherwise(
    tmp_path: Path, options: dict[str, int], steps: int
) -> None:
    assert _paced(tmp_path, images=144, **options).logging_steps == steps


def test_the_number_of_steps_that_is_asked_for_is_kept(tmp_path: Path) -> None:
    args = _paced(tmp_path, images=144, max_steps=7)
    assert args.max_steps == 7 and args.num_train_epochs == 3


def test_accumulated_batches_are_counted_as_one_step(tmp_path: Path) -> None:
    assert _paced(tmp_path, images=144, gradient_accumulation_steps=2).num_train_epochs == 80
