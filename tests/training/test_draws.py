from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import DatasetDict
from support.small_training import small_trainer

from brain_mri.arguments import RecipeArguments
from brain_mri.data.training_images import DRAW_GROUP
from brain_mri.data.transforms import Preprocessing
from brain_mri.training.draws import Draws

_GROUPS = [0] * 46 + [1] * 4 + list(range(2, 12))
_LABELS = [0] * 50 + [1] * 10


def _epoch(draws: Draws, epoch: int) -> list[int]:
    draws.epoch = epoch
    return list(draws)


def test_a_picture_copied_46_times_counts_once_an_epoch() -> None:
    draws = Draws("cluster", _GROUPS, _LABELS, seed=3)
    for epoch in range(3):
        drawn = _epoch(draws, epoch)
        assert len(drawn) == len(draws) == 12
        assert sorted(_GROUPS[i] for i in drawn) == list(range(12))
    assert len({_epoch(draws, epoch)[0] for epoch in range(20)}) > 1
    copies = {i for epoch in range(60) for i in _epoch(draws, epoch) if i < 46}
    assert len(copies) > 20, "another copy in another epoch"


def test_a_patient_of_many_slices_counts_by_the_root_of_their_number() -> None:
    draws = Draws("patient", _GROUPS, _LABELS, seed=3)
    seen = Counter(i for epoch in range(200) for i in _epoch(draws, epoch))
    per_epoch = Counter({group: 0.0 for group in _GROUPS})
    for i, times in seen.items():
        per_epoch[_GROUPS[i]] += times / 200
    assert len(draws) == 60 and sum(per_epoch[g] for g in (0, 1)) == pytest.approx(50), "classes keep their share"
    assert per_epoch[0] / per_epoch[1] == pytest.approx(np.sqrt(46 / 4), rel=0.05)
    assert all(per_epoch[g] == pytest.approx(1) for g in range(2, 12))


def test_no_image_comes_much_more_often_than_is_due_to_it() -> None:
    draws = Draws("patient", _GROUPS, _LABELS, seed=1)
    due = 50 / np.sqrt(4) / (np.sqrt(46) + np.sqrt(4))
    counts = Counter(_epoch(draws, 0))
    assert all(np.floor(due) <= counts[i] <= np.ceil(due) for i in range(46, 50))


@pytest.mark.parametrize("by", ["cluster", "patient"])
def test_draws_depend_on_seed_and_epoch_alone(by: str) -> None:
    first, second = (Draws(by, _GROUPS, _LABELS, seed=5) for _ in range(2))
    _epoch(first, 0)
    assert _epoch(first, 4) == _epoch(second, 4) != _epoch(second, 5)
    assert _epoch(Draws(by, _GROUPS, _LABELS, seed=6), 4) != _epoch(second, 4)


@pytest.mark.parametrize("by", ["cluster", "patient"])
def test_a_resumed_run_draws_the_same(
    tmp_path: Path, splits: DatasetDict, preprocessing: Preprocessing, by: str
) -> None:
    """Its checkpoint of a step is what a kill at that moment leaves: in the first epoch, at its end, in the second."""
    n = len(splits["train"])
    groups = np.arange(n) // 2 if by == "cluster" else np.minimum(np.arange(n), n // 2)
    grouped = DatasetDict({**splits, "train": splits["train"].add_column(DRAW_GROUP, groups)})
    options = {"per_device_train_batch_size": 7 if by == "cluster" else 13}
    recipe = RecipeArguments(draw_by=by, contrast_variation=0.5)
    whole = small_trainer(tmp_path / "whole", grouped, preprocessing, recipe, **options)
    whole.train()
    assert whole.state.global_step == 6
    for stop in (2, 3, 4):
        torch.manual_seed(99)
        resumed = small_trainer(tmp_path / str(stop), grouped, preprocessing, recipe, **options)
        resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / f"checkpoint-{stop}"))
        assert not (tmp_path / str(stop) / f"checkpoint-{stop}").exists(), "it did not begin anew"
        for name, value in whole.model.state_dict().items():
            assert torch.equal(value, resumed.model.state_dict()[name]), (stop, name)
