from __future__ import annotations

import pytest

from brain_mri.errors import DataError
from brain_mri.labels import LABELS, align_labels, canonical_label, no_healthy_class


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
        ("Kein Tumor", "no_tumor"),
        ("Brain_Healthy", "no_tumor"),
        ("no_brain_tumor", "no_tumor"),
        ("sin tumor", "no_tumor"),
        ("Gesund", "no_tumor"),
        ("Hypophysentumor", "pituitary"),
        ("Meningeom", "meningioma"),
        ("Brain Tumor", None),
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


@pytest.mark.parametrize(
    ("names", "is_known"),
    [
        (("no", "yes"), True),
        (LABELS, True),
        (("glioma", "meningioma", "pituitary"), True),  # tumours all
        (("A", "B"), False),
        (("glioma", "rien"), False),
    ],
)
def test_a_set_that_may_have_a_healthy_class_by_another_name_is_named(names: tuple[str, ...], is_known: bool) -> None:
    said = no_healthy_class(names)
    assert said is None if is_known else said and all(name in said for name in names)


def test_two_folders_of_one_meaning_are_refused_by_name() -> None:
    with pytest.raises(DataError, match="'no', 'notumor' all mean 'no_tumor'"):
        align_labels(["no", "notumor", "glioma"])
