"""The four classes, their order, and the many names that folders give them."""

from __future__ import annotations

from collections.abc import Iterable

from brain_mri.errors import DataError

LABELS = ("glioma", "meningioma", "no_tumor", "pituitary")
NO_TUMOR = "no_tumor"  # the answer that hurts most where it is wrong

# Names of classes as people write them, reduced to lower-case letters without "brain" and a trailing "tumor". A healthy
# class that is not known as one is the worst to miss: it would be answered without the caution that it needs.
_NAMES = {
    "glioma": "glioma gliomas gliom gliome",
    "meningioma": "meningioma meningiomas meningeom meningeome meningiom meningiome",
    "no_tumor": "no none non not without normal normals normale healthy healthycontrol healthycontrols control "
    "controls negative notumor tumorfree notumordetected kein keine ohne keintumor gesund gesunde sano sana sin sain "
    "sanstumeur sem saudavel",
    "pituitary": "pituitary pituitaryadenoma hypophyse hypophysen hypophysenadenom",
}
_ALIASES = {name: label for label, names in _NAMES.items() for name in names.split()}


def canonical_label(name: str) -> str | None:
    """Return which of `LABELS` a class name means (`glioma_tumor`, `No Tumour`, `healthy` ...), or None."""
    letters = "".join(c for c in name.lower() if c.isalpha()).replace("tumour", "tumor").replace("brain", "")
    letters = letters.removesuffix("tumors")
    return _ALIASES.get(letters.removesuffix("tumor"), _ALIASES.get(letters))


def meaning(name: str) -> str:
    """What two names of one class have in common: which of `LABELS` they mean, else their letters in lower case."""
    return canonical_label(name) or name.strip().casefold()


def is_healthy(name: str) -> bool:
    """Whether a class means that there is no tumour (`no_tumor`, and `no` or `healthy` of another set)."""
    return canonical_label(name) == NO_TUMOR


def is_tumor(name: str, names: Iterable[str]) -> bool:
    """Whether a class of a model with the classes `names` means a tumour; no where it may mean that there is none."""
    return not is_healthy(name) and (canonical_label(name) is not None or any(map(is_healthy, names)))


def no_healthy_class(names: Iterable[str]) -> str | None:
    """What is lost where no class is known to mean "no tumour" and one may mean it, as a sentence; None elsewhere."""
    known = {name: canonical_label(name) for name in names}
    if NO_TUMOR in known.values() or None not in known.values():
        return None
    return (
        f"None of the classes {', '.join(known)} is known to mean that there is no tumour. If one does, call it "
        "no_tumor, healthy or normal and train again: else its answers get no higher threshold than a tumour's, and "
        "false all-clears are not counted."
    )


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
            raise DataError(f"the classes {', '.join(map(repr, same))} all mean {label!r}: give them one name.")
    return dict(sorted(labels.items(), key=lambda item: LABELS.index(item[1])))
