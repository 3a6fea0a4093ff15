from __future__ import annotations

import pytest

from brain_mri.errors import DataError
from brain_mri.labels import LABELS, align_labels, canonical_label


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("glioma", "glioma"),
        ("glioma_tumor", "glioma"),
        ("Meningioma Tumour", "meningioma"),
        ("pituitary_tumor", "pituitary"),
        ("notumor", "no_tumor"),
        ("no_tumor", "no_tumor"),
        ("No Tumour", "no_tumor"),
        ("no", "no_tumor"),
        ("healthy", "no_tumor"),
        ("yes", None),
        ("tumor", None),
        ("metastasis", None),
    ],
)
def test_folder_names_are_understood(name: str, label: str | None) -> None:
    assert canonical_label(name) == label


def test_four_classes_come_in_the_order_of_the_contract() -> None:
    mapping = align_labels(["pituitary_tumor", "no_tumor", "meningioma_tumor", "glioma_tumor"])
    assert tuple(mapping.values()) == LABELS
    assert mapping["pituitary_tumor"] == "pituitary"


def test_three_of_the_classes_keep_the_order() -> None:
    assert list(align_labels(["pituitary", "glioma", "meningioma"]).values()) == ["glioma", "meningioma", "pituitary"]


def test_another_set_of_classes_keeps_its_own_names() -> None:
    assert align_labels(["yes", "no"]) == {"no": "no", "yes": "yes"}


def test_two_folders_of_one_meaning_are_refused_by_name() -> None:
    with pytest.raises(DataError, match="'no', 'notumor' all mean 'no_tumor'"):
        align_labels(["no", "notumor", "glioma"])
