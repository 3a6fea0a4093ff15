"""The four classes, their order, and the many names that folders give them."""

from __future__ import annotations

from collections.abc import Iterable

from brain_mri.errors import DataError

LABELS = ("glioma", "meningioma", "no_tumor", "pituitary")
NO_TUMOR = "no_tumor"  # the answer that hurts most where it is wrong

# Folder names met in published copies of these datasets, reduced to lower-case letters without a trailing "tumor".
_ALIASES = {
    "glioma": "glioma",
    "gliomas": "glioma",
    "meningioma": "meningioma",
    "meningiomas": "meningioma",
    "pituitary": "pituitary",
    "pituitaryadenoma": "pituitary",
    "no": "no_tumor",
    "none": "no_tumor",
    "normal": "no_tumor",
    "healthy": "no_tumor",
    "negative": "no_tumor",
    "notumor": "no_tumor",
}


def canonical_label(name: str) -> str | None:
    """Return which of `LABELS` a class name means (`glioma_tumor`, `No Tumour`, `healthy` ...), or None."""
    letters = "".join(c for c in name.lower() if c.isalpha()).replace("tumour", "tumor").removesuffix("tumors")
    return _ALIASES.get(letters.removesuffix("tumor"), _ALIASES.get(letters))


def is_healthy(name: str) -> bool:
    """Whether a class means that there is no tumour (`no_tumor`, and `no` or `healthy` of another set)."""
    return canonical_label(name) == NO_TUMOR


def align_labels(names: Iterable[str]) -> dict[str, str]:
    """Map the class names of a dataset to the labels a model is trained with.

    If every name means one of `LABELS`, it becomes that one. A dataset with any other name (a binary `yes`/`no` folder,
    tumour grades) keeps its own names, sorted.

    Returns:
        `{class name in the dataset: label}`, in the order of the model's outputs.

    Raises:
        DataError: two class names mean the same label.
    """
    originals = sorted(set(names))
    meanings = {name: canonical_label(name) for name in originals}
    if None in meanings.values():
        return {name: name for name in originals}
    labels = {name: label for name, label in meanings.items() if label is not None}
    for label in LABELS:
        same = [name for name in originals if labels[name] == label]
        if len(same) > 1:
            raise DataError(f"the classes {', '.join(map(repr, same))} all mean {label!r}: merge them into one folder.")
    return dict(sorted(labels.items(), key=lambda item: LABELS.index(item[1])))
