from __future__ import annotations

import logging
from collections import Counter

import numpy as np
import pytest
from datasets import Dataset, DatasetDict

from brain_mri.data.grafts import graft_of, is_graft, with_grafts
from brain_mri.data.transforms import unpack
from brain_mri.labels import LABELS

_SIDE = 32
_HEALTHY = LABELS.index("no_tumor")


def _grafted(train: Dataset, share: float = 0.5, seed: int = 1, names: tuple[str, ...] = LABELS) -> Dataset:
    return with_grafts(train, names, np.arange(len(train)), share, _SIDE, seed)


def _grafts(rows: Dataset, kind: str) -> list[dict[str, object]]:
    return [row for row in rows if is_graft(row["file_name"]) and graft_of(row["file_name"])[0] == kind]


@pytest.fixture(scope="module")
def rows(splits: DatasetDict) -> Dataset:
    return _grafted(splits["train"])


def test_the_images_stay_and_the_grafts_follow(rows: Dataset, splits: DatasetDict) -> None:
    n = len(splits["train"])
    for column in ("pixels", "label", "file_name"):
        assert rows[:n][column] == splits["train"][:][column]
    assert all(is_graft(name) for name in rows[n:]["file_name"]) and not any(map(is_graft, rows[:n]["file_name"]))
    made = Counter(graft_of(name)[0] for name in rows[n:]["file_name"])
    assert made["tumor"] > n / 4 and made["removal"] > n / 4 and made["tissue"] > n / 16


def test_a_tumor_takes_its_class_and_its_box_into_a_healthy_slice(rows: Dataset) -> None:
    found = _grafts(rows, "tumor")
    for row in found:
        _, host, donor = graft_of(row["file_name"])
        assert "/no_tumor/" in host and f"/{LABELS[row['label']]}/" in donor
        assert all(0 < value < 1 for value in row["box"])
    counts = Counter(row["label"] for row in found)
    assert _HEALTHY not in counts and max(counts.values()) <= -(-len(found) // 3) + 1


@pytest.mark.parametrize("kind", ["tissue", "removal"])
def test_what_shows_no_tumor_any_more_is_healthy_and_has_no_box(rows: Dataset, kind: str) -> None:
    for row in _grafts(rows, kind):
        _, host, donor = graft_of(row["file_name"])
        assert row["label"] == _HEALTHY and np.isnan(row["box"]).all() and host != donor
        assert ("/no_tumor/" in host) == ("/no_tumor/" in donor) == (kind == "tissue")


def test_a_removed_tumor_is_no_longer_to_be_seen(rows: Dataset, splits: DatasetDict) -> None:
    place = {name: i for i, name in enumerate(splits["train"]["file_name"])}
    for row in _grafts(rows, "removal"):
        host = splits["train"][place[graft_of(row["file_name"])[1]]]
        before, after = (unpack(packed, _SIDE)[0].astype(int) for packed in (host["pixels"], row["pixels"]))
        x, y, width, height = (value * _SIDE for value in host["box"])
        inside = np.s_[
            round(y - height / 4) : round(y + height / 4) + 1, round(x - width / 4) : round(x + width / 4) + 1
        ]
        outside = np.ones_like(before, bool)
        outside[max(0, round(y - height)) : round(y + height) + 1, max(0, round(x - width)) : round(x + width) + 1] = (
            False
        )
        assert (before[inside] != after[inside]).any() and np.array_equal(before[outside], after[outside])


def test_only_training_images_give_and_take(rows: Dataset, splits: DatasetDict) -> None:
    known = set(splits["train"]["file_name"])
    held_out = set(splits["validation"]["patient_group"]) | set(splits["test"]["patient_group"])
    patients = dict(zip(splits["train"]["file_name"], splits["train"]["patient_group"], strict=True))
    for name in filter(is_graft, rows["file_name"]):
        _, host, donor = graft_of(name)
        assert {host, donor} <= known and not {patients[host], patients[donor]} & held_out


def test_the_same_seed_gives_the_same_grafts_and_another_does_not(rows: Dataset, splits: DatasetDict) -> None:
    same = splits["train"].select(range(len(splits["train"])))
    assert same._fingerprint != splits["train"]._fingerprint, "so that nothing is read from the cache"
    again = _grafted(same)
    assert again[:]["pixels"] == rows[:]["pixels"] and again[:]["file_name"] == rows[:]["file_name"]
    assert _grafted(splits["train"], seed=2)[:]["file_name"] != rows[:]["file_name"]


def test_a_glioma_whose_oedema_may_reach_beyond_its_box_is_not_called_healthy(rows: Dataset) -> None:
    for row in _grafts(rows, "removal"):
        assert not any("/glioma/" in name for name in graft_of(row["file_name"])[1:])


def test_lesions_are_gliomas_in_healthy_slices_and_in_slices_whose_tumour_is_covered(splits: DatasetDict) -> None:
    train = splits["train"]
    painted = _grafts(with_grafts(train, LABELS, np.arange(len(train)), 0.0, _SIDE, 1, lesions=0.5), "lesion")
    assert len(painted) == round(0.5 * len(train))
    healthy = ["/no_tumor/" in graft_of(row["file_name"])[1] for row in painted]
    assert 0.25 * len(painted) < sum(healthy) < 0.75 * len(painted)
    for row in painted:
        assert row["label"] == LABELS.index("glioma") and all(0 < value < 1 for value in row["box"])


def test_a_set_without_gliomas_gets_no_lesions(splits: DatasetDict, caplog: pytest.LogCaptureFixture) -> None:
    train = splits["train"].map(lambda row: {"label": int(row["label"] != _HEALTHY)})
    with caplog.at_level(logging.WARNING, logger="brain_mri"):
        rows = with_grafts(train, ("no", "yes"), np.arange(len(train)), 0.5, _SIDE, 1, lesions=0.5)
    assert len(caplog.records) == 1 and {graft_of(n)[0] for n in rows["file_name"] if is_graft(n)} >= {"tumor"}
    assert not _grafts(rows, "lesion")


def test_no_donor_is_used_much_more_than_others(rows: Dataset) -> None:
    donors = Counter(graft_of(row["file_name"])[2] for row in _grafts(rows, "tumor"))
    assert max(donors.values()) <= 3


def test_near_duplicates_do_not_patch_each_other(splits: DatasetDict) -> None:
    one_cluster = with_grafts(splits["train"], LABELS, np.zeros(len(splits["train"]), np.int64), 0.5, _SIDE, 1)
    assert not any(map(is_graft, one_cluster["file_name"]))


def test_without_boxes_or_healthy_slices_there_are_no_grafts_and_it_is_said(
    splits: DatasetDict, caplog: pytest.LogCaptureFixture
) -> None:
    train = splits["train"]
    unboxed = train.remove_columns("box").add_column("box", [[float("nan")] * 4] * len(train))
    ill = train.filter(lambda row: row["label"] != _HEALTHY)
    with caplog.at_level(logging.WARNING, logger="brain_mri"):
        assert len(_grafted(unboxed)) == len(train) and "boxes.csv" in caplog.text
        caplog.clear()
        assert len(_grafted(ill, names=("glioma", "meningioma", "pituitary"))) == len(ill)
        assert len(caplog.records) == 1 and "no class without a tumour" in caplog.text


def test_a_yes_no_set_has_a_healthy_class_too(splits: DatasetDict) -> None:
    train = splits["train"].map(lambda row: {"label": int(row["label"] != _HEALTHY)})
    labels = {row["label"] for row in _grafts(_grafted(train, names=("no", "yes")), "tumor")}
    assert labels == {1}
