"""For a review of a data set: its distinct pictures, the odd ones first, and the listed ones. No torch.

A class may hold wrong images: another method, another organ, a lesion among the healthy. No number finds them all; a
person has to look at each distinct picture once and list the wrong ones in `review.csv`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brain_mri.data.duplicates import ORIENTATIONS, Pairs
from brain_mri.data.image_table import AuditTable

_GREY_LEVELS = 8  # bins of the grey values
_LEAST_SPREAD = 1e-3  # share of the pixels: a bin that is as full in nearly all pictures must not decide alone


@dataclass(frozen=True)
class Picture:
    """One distinct picture of a class.

    Attributes:
        number: from 1, the picture with the most copies first.
        images: indices of its images, the first of them shown.
        outlier_rank: from 1, the picture least like the others of its class first.
    """

    number: int
    images: tuple[int, ...]
    outlier_rank: int


def distinct_pictures(table: AuditTable, groups: NDArray[np.int64]) -> dict[str, list[Picture]]:
    """The distinct pictures of each class, those with the most copies first.

    Args:
        table: the images.
        groups: (n,), equal for images joined by near-duplicates, see `duplicates.clusters`.
    """
    members: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for i, (label, group) in enumerate(zip(table.labels, groups.tolist(), strict=True)):
        members[label][group].append(i)
    return {label: _numbered(table, list(members[label].values())) for label in sorted(members)}


def _numbered(table: AuditTable, sets: list[list[int]]) -> list[Picture]:
    sets.sort(key=lambda images: (-len(images), images[0]))
    oddness = odd_greys(table.thumbnails[np.array([images[0] for images in sets])])
    ranks = np.empty(len(sets), np.int64)
    ranks[np.argsort(-oddness, kind="stable")] = np.arange(1, len(sets) + 1)
    return [Picture(k + 1, tuple(images), int(ranks[k])) for k, images in enumerate(sets)]


def odd_greys(thumbnails: NDArray[np.uint8]) -> NDArray[np.float64]:
    """How far the grey values of each picture are from the usual ones of its class: float64 (n,), 0 or more.

    Each picture is a histogram of 8 grey levels; counted is its distance from the median picture, level by level in
    units of the median absolute deviation, root mean square over the levels.

    It finds what is bright or dark in another way, and nothing else. Among the 406 distinct `no_tumor` pictures of the
    Kaggle set, in which a review lists 19 CT and 12 lesions, the first 25 hold 13 of the CT and no lesion, the first 50
    16 and 3, the first 100 18 and 5: good for CT, no better than chance for lesions. It was chosen among several dozen
    such scores on these same pictures, so expect less elsewhere.

    Args:
        thumbnails: uint8 (n, S, S), one of each distinct picture.
    """
    levels = np.asarray(thumbnails).reshape(len(thumbnails), -1) // (256 // _GREY_LEVELS)
    shares = np.stack([(levels == level).mean(axis=1) for level in range(_GREY_LEVELS)], axis=1)
    apart = np.abs(shares - np.median(shares, axis=0))
    spread = 1.4826 * np.median(apart, axis=0) + _LEAST_SPREAD  # that of a normal distribution, in deviations
    return np.asarray(np.sqrt(np.square(apart / spread).mean(axis=1)), np.float64)


def count_distinct(table: AuditTable, groups: NDArray[np.int64]) -> dict[str, dict[str, int]]:
    """`{label: {"images", "pictures", "largest"}}`: how many distinct pictures, and the most copies of one."""
    sizes: dict[str, Counter[int]] = defaultdict(Counter)
    for label, group in zip(table.labels, groups.tolist(), strict=True):
        sizes[label][group] += 1
    return {
        label: {"images": sum(s.values()), "pictures": len(s), "largest": max(s.values())}
        for label, s in sorted(sizes.items())
    }


def review_report(table: AuditTable, pairs: Pairs) -> dict[str, Any]:
    """What `review.csv` lists.

    Returns:
        `images` listed; `counts`, `{split: {label: {finding: n}}}`; and `unlisted_twins`, the images that are
        near-duplicates of a listed one and not listed, each as `{"image", "like", "finding", "similarity",
        "orientation"}`.
    """
    counts: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for split, label, finding in zip(table.splits, table.labels, table.findings, strict=True):
        if finding:
            counts[split][label][finding] += 1
    return {
        "images": sum(map(bool, table.findings)),
        "counts": {s: {label: dict(n) for label, n in of_label.items()} for s, of_label in counts.items()},
        "unlisted_twins": _unlisted_twins(table, pairs),
    }


def _unlisted_twins(table: AuditTable, pairs: Pairs) -> list[dict[str, Any]]:
    """One for each image, with the listed image that is most like it."""
    listed = np.array([bool(finding) for finding in table.findings], dtype=bool)
    mixed = pairs.select(listed[pairs.first] != listed[pairs.second])
    found: dict[int, dict[str, Any]] = {}
    for k in np.argsort(-mixed.similarity, kind="stable"):
        i, j = int(mixed.first[k]), int(mixed.second[k])
        other, like = (j, i) if listed[i] else (i, j)
        found.setdefault(
            other,
            {
                "image": table.file_names[other],
                "like": table.file_names[like],
                "finding": table.findings[like],
                "similarity": round(float(mixed.similarity[k]), 4),
                "orientation": ORIENTATIONS[mixed.orientation[k]],
            },
        )
    return [found[i] for i in sorted(found)]
