from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset

from brain_mri.data.splits import hold_out, merge_groups, sample
from brain_mri.errors import ConfigError, DataError


def test_patients_and_near_duplicates_are_joined_through_each_other() -> None:
    groups = merge_groups(["A", None, "B", "A", None], first=[0], second=[1])
    assert groups[0] == groups[1] == groups[3]
    assert len(set(groups.tolist())) == 3


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("fraction", [0.1, 0.15, 0.2, 0.5])
def test_no_group_is_on_both_sides_and_the_shares_hold(seed: int, fraction: float) -> None:
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 150, 1000)
    labels = groups % 4
    kept, held = hold_out(labels, groups, fraction, seed)
    assert not set(groups[kept]) & set(groups[held])
    assert sorted([*kept, *held]) == list(range(1000))
    assert abs(len(held) / 1000 - fraction) < 0.03
    for label in range(4):
        assert abs((labels[held] == label).sum() / (labels == label).sum() - fraction) < 0.08


def test_the_same_seed_holds_out_the_same_images() -> None:
    labels, groups = np.arange(200) % 4, np.arange(200)
    assert np.array_equal(hold_out(labels, groups, 0.2, 7)[1], hold_out(labels, groups, 0.2, 7)[1])
    assert not np.array_equal(hold_out(labels, groups, 0.2, 7)[1], hold_out(labels, groups, 0.2, 8)[1])


def test_singletons_are_held_out_to_the_image() -> None:
    labels = np.repeat([0, 1], 50)
    assert np.bincount(labels[hold_out(labels, np.arange(100), 0.2, 0)[1]]).tolist() == [10, 10]


def test_a_class_of_one_patient_cannot_be_split() -> None:
    with pytest.raises(DataError, match="pituitary has 2 images of one patient"):
        hold_out([0, 0, 1, 1], [0, 0, 1, 2], 0.2, 0, ["pituitary", "glioma"])


@pytest.mark.parametrize("fraction", [0.01, 0.03])
def test_a_small_share_is_held_out_as_asked(fraction: float) -> None:
    labels = np.repeat([0, 1], 100)
    held = hold_out(labels, np.arange(200), fraction, 0)[1]
    assert abs(len(held) - 200 * fraction) <= 1


def _rows(*counts: int) -> Dataset:
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    return Dataset.from_dict({"label": labels, "file_name": [str(i) for i in range(len(labels))]})


@pytest.mark.parametrize("most", [3, 10, 31, 90])
def test_a_sample_has_the_shares_of_the_classes(most: int) -> None:
    drawn = sample(_rows(60, 30, 10), most, seed=1)
    assert len(drawn) == most and len(set(drawn["file_name"][:])) == most
    for label, share in enumerate((0.6, 0.3, 0.1)):
        count = drawn["label"][:].count(label)
        assert count >= 1 and abs(count - share * most) <= 1


def test_a_sample_is_the_same_for_the_same_seed_only_and_keeps_the_order() -> None:
    rows = _rows(60, 30, 10)
    first, again, other = (sample(rows, 20, seed)["file_name"][:] for seed in (1, 1, 2))
    assert first == again != other and first == sorted(first, key=int)


def test_all_images_are_kept_where_no_fewer_are_asked_for() -> None:
    rows = _rows(3, 2)
    assert sample(rows, 0, 1) is rows and sample(rows, 5, 1) is rows


def test_a_sample_without_one_of_each_class_is_refused() -> None:
    with pytest.raises(ConfigError, match="3 classes"):
        sample(_rows(5, 5, 5), 2, 1)
