from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from datasets import DatasetDict
from PIL import Image
from support.small_training import MODEL, training_arguments
from transformers import TrainingArguments

from brain_mri.arguments import ModelArguments, RecipeArguments
from brain_mri.data.transforms import Preprocessing
from brain_mri.errors import ConfigError
from brain_mri.labels import LABELS
from brain_mri.model_folder import SEARCH, SEARCH_PLOT
from brain_mri.training import run
from brain_mri.training.search import search, search_begun
from brain_mri.training.trainer import MRITrainer

_OPTIONS: dict[str, Any] = {"max_steps": 1, "num_train_epochs": 1, "eval_strategy": "epoch"}


def _search(
    folder: Path, splits: DatasetDict, preprocessing: Preprocessing, trials: int, **options: Any
) -> tuple[ModelArguments, TrainingArguments]:
    args = training_arguments(folder / "checkpoints", **(_OPTIONS | options))
    return search(MODEL, LABELS, splits, preprocessing, RecipeArguments(search_trials=trials), args, folder)


def _trials(folder: Path) -> list[optuna.trial.FrozenTrial]:
    storage = f"sqlite:///{folder / SEARCH}"
    (name,) = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=name, storage=storage).trials


def test_the_search_fills_in_the_best_that_it_found(
    tmp_path: Path, splits: DatasetDict, preprocessing: Preprocessing
) -> None:
    model_args, found = _search(tmp_path, splits, preprocessing, 3)
    best = max(_trials(tmp_path), key=lambda trial: trial.value)
    assert model_args.drop_rate == best.params["drop_rate"] and found.learning_rate == best.params["learning_rate"]
    assert found.output_dir == str(tmp_path / "checkpoints") and found.save_strategy == "steps"
    assert Image.open(tmp_path / SEARCH_PLOT).size[0] > 300


def test_no_trial_is_given_a_batch_that_an_epoch_does_not_fill(
    tmp_path: Path, splits: DatasetDict, preprocessing: Preprocessing
) -> None:
    few = DatasetDict({**splits, "train": splits["train"].select(range(0, len(splits["train"]), 2))})
    assert 16 <= len(few["train"]) < 32
    _search(tmp_path, few, preprocessing, 4, dataloader_drop_last=True)
    assert {trial.params["per_device_train_batch_size"] for trial in _trials(tmp_path)} == {16}
    fewer = DatasetDict({**splits, "train": splits["train"].select(range(0, len(splits["train"]), 4))})
    _, found = _search(tmp_path / "fewer", fewer, preprocessing, 1, dataloader_drop_last=True)
    assert found.per_device_train_batch_size == 8, "the run's own"


def test_a_search_that_was_stopped_goes_on_where_it_was_and_finds_the_same(
    tmp_path: Path, splits: DatasetDict, preprocessing: Preprocessing, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _search(tmp_path / "whole", splits, preprocessing, 4)[1]
    tried: list[float] = []
    train = MRITrainer.train

    def stopped_in_the_third(self: MRITrainer, *args: Any, **kwargs: Any) -> Any:
        tried.append(kwargs["trial"].number)
        if len(tried) == 3:
            raise KeyboardInterrupt
        return train(self, *args, **kwargs)

    monkeypatch.setattr(MRITrainer, "train", stopped_in_the_third)
    with pytest.raises(KeyboardInterrupt):
        _search(tmp_path / "stopped", splits, preprocessing, 4)
    resumed = _search(tmp_path / "stopped", splits, preprocessing, 4)[1]
    assert len(tried) == 5, "two trials, one cut short, and the two that were left"
    assert resumed.learning_rate == whole.learning_rate
    ended = [trial.params for trial in _trials(tmp_path / "stopped") if trial.value is not None]
    assert ended == [trial.params for trial in _trials(tmp_path / "whole")]
    assert _search(tmp_path / "stopped", splits, preprocessing, 4)[1].learning_rate == whole.learning_rate
    assert len(tried) == 5, "a finished search tries nothing"


def test_a_folder_with_a_search_holds_a_run(tmp_path: Path) -> None:
    assert search_begun(tmp_path) is None
    (tmp_path / SEARCH).touch()
    assert search_begun(tmp_path) == str(tmp_path / SEARCH)
    with pytest.raises(ConfigError, match="already holds a run"):
        run.begin(TrainingArguments(str(tmp_path), report_to="none", use_cpu=True))
