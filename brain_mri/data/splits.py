"""Holding images out, with no patient and no near-duplicate on both sides. No torch."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from brain_mri.errors import ConfigError, DataError

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

logger = logging.getLogger(__name__)

Ints = npt.NDArray[np.int64]


def merge_groups(patient_groups: Sequence[str | None], first: npt.ArrayLike, second: npt.ArrayLike) -> Ints:
    """Number the sets of images that must stay together.

    Args:
        patient_groups: each image's patient, None where unknown.
        first: indices of images that are near-duplicates of those at the same places in `second`.
        second: see `first`.

    Returns:
        A group number for each image, equal for those joined, directly or through others, by patient or near-duplicate.
    """
    n = len(patient_groups)
    first_of: dict[str, int] = {}
    patient_links = [(first_of.setdefault(g, i), i) for i, g in enumerate(patient_groups) if g is not None]
    links = np.array(patient_links, dtype=np.int64).reshape(-1, 2)
    rows = np.concatenate([links[:, 0], np.asarray(first, dtype=np.int64)])
    columns = np.concatenate([links[:, 1], np.asarray(second, dtype=np.int64)])
    graph = coo_matrix((np.ones(len(rows), dtype=bool), (rows, columns)), shape=(n, n))
    groups: Ints = connected_components(graph, directed=False)[1].astype(np.int64)
    return groups


def hold_out(
    labels: npt.ArrayLike, groups: npt.ArrayLike, fraction: float, seed: int, label_names: Sequence[str] = ()
) -> tuple[Ints, Ints]:
    """Hold out about `fraction` of the images in whole groups, stratified by label (StratifiedGroupKFold).

    Args:
        labels: the class number of each image.
        groups: a number for each image; those of one group stay together.
        fraction: of the images, above 0 and at most 0.5.
        seed: the same arguments give the same split.
        label_names: of the classes, for the error.

    Returns:
        The indices kept and the indices held out, both sorted.

    Raises:
        DataError: a class has too few groups to be on both sides.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # half a second, which data with splits does without

    label_ids, group_ids = np.asarray(labels), np.asarray(groups)
    share = Fraction(fraction).limit_denominator(20) if fraction >= 0.05 else Fraction(1, round(1 / fraction))
    groups_of = {int(label): len(np.unique(group_ids[label_ids == label])) for label in np.unique(label_ids)}
    fewest = min(groups_of.values())
    if fewest < 2:
        alone = next(label for label, count in groups_of.items() if count == fewest)
        name, images = label_names[alone] if label_names else f"class {alone}", int((label_ids == alone).sum())
        raise DataError(
            f"{name} has {images:,} image{'s' * (images > 1)} of one patient or cluster of near-duplicates, but 2 "
            "are needed to hold one out: add images of other patients, or give a validation/ and a test/ folder."
        )
    if share.denominator > fewest:
        share = Fraction(1, min(fewest, max(2, round(1 / fraction))))
    folds = StratifiedGroupKFold(n_splits=share.denominator, shuffle=True, random_state=seed)
    parts = [held for _, held in folds.split(label_ids, label_ids, group_ids)]
    held = np.sort(np.concatenate(parts[: share.numerator]))
    kept = np.setdiff1d(np.arange(len(label_ids)), held)
    for side, indices in (("kept", kept), ("held-out", held)):
        if len(np.unique(label_ids[indices])) < len(np.unique(label_ids)):
            raise DataError(
                f"the {side} side of a {fraction:.0%} split would miss a class, because whole patients and clusters of "
                "near-duplicates stay together: bring a split of your own (train/, validation/, test/)."
            )
    return kept, held


def sample(rows: Dataset, most: int, seed: int) -> Dataset:
    """At most `most` rows, drawn at random in the shares of the classes, one or more of each; 0: all.

    Args:
        rows: prepared images, with the column `label`; their order is kept.
        most: how many.
        seed: the same rows and seed give the same draw.

    Raises:
        ConfigError: there are more classes than rows asked for.
    """
    if not most or most >= len(rows):
        return rows
    labels = np.asarray(rows["label"][:])
    classes, places = np.unique(labels, return_inverse=True)
    if most < len(classes):
        raise ConfigError(f"{most} images of {len(classes)} classes were asked for: give one or more of each.")
    order = np.random.default_rng(seed).permutation(len(labels))
    rank = np.empty(len(labels), np.int64)  # of an image within its class, in random order
    for place in range(len(classes)):
        own = order[places[order] == place]
        rank[own] = np.arange(len(own))
    share = np.where(rank == 0, -1.0, (rank + 0.5) / np.bincount(places)[places])  # one of each class comes first
    return rows.select(np.sort(order[np.argsort(share[order], kind="stable")[:most]]))


def without_findings(rows: Dataset, split: str, label_names: Sequence[str]) -> Dataset:
    """The rows of a split that a model learns from, without those that a review lists.

    Args:
        rows: prepared images, with the columns `finding` and `label`.
        split: its name.
        label_names: of the labels.

    Raises:
        DataError: nothing would be left of a class.
    """
    findings = rows["finding"][:]
    if not any(findings):
        return rows
    kept = rows.select([i for i, finding in enumerate(findings) if not finding])
    if lost := set(rows["label"][:]) - set(kept["label"][:]):
        names = ", ".join(label_names[label] for label in sorted(lost))
        raise DataError(f"every {split} image of the class {names} has a finding in review.csv: none would be left.")
    logger.info("%d %s images are left out, for their findings: %s", len(rows) - len(kept), split, in_words(findings))
    return kept


def left_out(rows: Dataset, splits: Mapping[str, Dataset]) -> dict[str, int]:
    """How many of the prepared rows with which finding are in no split."""
    used = set().union(*(split["file_name"][:] for split in splits.values()))
    named = zip(rows["file_name"][:], rows["finding"][:], strict=True)
    return dict(Counter(finding for name, finding in named if finding and name not in used))


def in_words(findings: Iterable[str | None]) -> str:
    """How often there is which finding, the most frequent first: "73 ct, 59 lesion"."""
    counts = Counter(finding for finding in findings if finding)
    return ", ".join(f"{number:,} {finding}" for finding, number in counts.most_common())


def split_sizes(splits: DatasetDict, label_names: Sequence[str]) -> dict[str, dict[str, int]]:
    """Images per split and class."""
    counts = {split: Counter(rows["label"][:]) for split, rows in splits.items()}
    return {s: {name: counts[s][i] for i, name in enumerate(label_names)} for s in counts}


def format_sizes(sizes: dict[str, dict[str, int]]) -> str:
    """A table of `split_sizes`."""
    names = list(next(iter(sizes.values())))
    width = max([14, *(len(name) + 2 for name in names)])
    head = f"{'split':<12}{'images':>8}" + "".join(f"{name:>{width}}" for name in names)
    lines = [f"{s:<12}{sum(n.values()):>8,}" + "".join(f"{n[x]:>{width},}" for x in names) for s, n in sizes.items()]
    return "\n".join([head, *lines])
