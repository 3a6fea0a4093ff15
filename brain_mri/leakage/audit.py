"""The leakage audit: which images of one split give away those of another. No torch.

    python -m brain_mri.leakage DATA_DIR [--output outputs/audit]

Looked for are byte-identical files, near-duplicates (mirrored, turned, resized and recompressed copies included),
patients on both sides of a split where `patients.csv` names them, and twins that bear different labels.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from itertools import combinations, combinations_with_replacement
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brain_mri.data.duplicates import (
    ORIENTATIONS,
    SIDE,
    THRESHOLD,
    Pairs,
    clusters,
    near_duplicate_pairs,
    thumbnail,
)
from brain_mri.data.image_folder import scan_folder
from brain_mri.data.image_table import AuditTable
from brain_mri.data.layout import MOST_NAMED, WHOLE, FolderLayout, raise_problems
from brain_mri.data.slice_file import read_slice
from brain_mri.errors import ConfigError, ImageError
from brain_mri.io.untrusted import MAX_DICOM_BYTES, opened, read_all
from brain_mri.leakage.review import count_distinct, review_report

_SPLIT_ORDER = ("train", "validation", "test", WHOLE)
_SEEN = ("train", "validation")  # what a model was fitted or tuned on
_MOST_SHOWN = 12
_FEW_IMAGES = 256  # reading so few takes no longer than starting processes for it


def audit(table: AuditTable, threshold: float = THRESHOLD, pairs: Pairs | None = None) -> dict[str, Any]:
    """Count what leaks within and between splits; the result is ready for `json.dumps`.

    A twin of an image is a byte-identical file, or one whose thumbnail correlates by `threshold` in any of the eight
    orientations. "train/test" below stands for each pair of splits, a split paired with itself included.

    Args:
        table: the images.
        threshold: correlation in (0, 1].
        pairs: the near-duplicates at that threshold, where they have been searched already.

    Returns:
        `images` and `threshold`: n and the correlation used.
        `splits`: `{split: {"images": n, "labels": {label: n}}}`.
        `identical_files`, `twins`: `{"train/test": {"pairs": n, "images": {split: images with a twin there}}}`;
            twins include identical files, and have `orientations`, `{orientation: pairs}`, and `mirrored_share`, in
            [0, 1] (absent without a pair).
        `clusters`: `count` of the sets of images joined by twins, and how many images the `largest` has.
        `distinct`: of each class, see `review.count_distinct`.
        `review`: see `review.review_report`; absent where nothing is listed.
        `different_labels`: the twins that bear different labels, `{"images", "labels", "similarity", "orientation"}`.
        `worst_pairs`: the dozen most suspicious twins, described likewise.
        `patients`: `known` images, `groups`, and `across`: `{"train/test": {"groups": n, "images": {split: n}}}`.
        `test_with_twin`: names of the test images with a twin in train or validation.
        `test_with_identical_file`: how many of them are byte-identical to it.
        `test_with_known_patient`, `test_with_seen_patient`: test images whose patient is known, and those whose
            patient is in train or validation too.

    Raises:
        ConfigError: `threshold` is not in (0, 1].
    """
    pairs = near_duplicate_pairs(table.thumbnails, threshold) if pairs is None else pairs
    digests = np.asarray(table.digests)
    identical = pairs.select(digests[pairs.first] == digests[pairs.second])
    groups = clusters(len(table), pairs)
    sizes = np.bincount(groups, minlength=1)
    report = {
        "images": len(table),
        "threshold": threshold,
        "splits": _split_counts(table),
        "identical_files": _per_splits(table, identical),
        "twins": _per_splits(table, pairs, orientations=True),
        "clusters": {"count": int((sizes > 1).sum()), "largest": int(sizes.max())},
        "distinct": count_distinct(table, groups),
        "different_labels": _different_labels(table, pairs),
        "worst_pairs": _worst_pairs(table, pairs, groups),
        "patients": _patients(table),
        "test_with_twin": [table.file_names[i] for i in _test_images_linked(table, pairs)],
        "test_with_identical_file": len(_test_images_linked(table, identical)),
        "test_with_known_patient": len(_known_patients(table, ("test",))),
        "test_with_seen_patient": _test_images_of_seen_patients(table),
    }
    return report | ({"review": review_report(table, pairs)} if any(table.findings) else {})


def without_names(report: dict[str, Any], digests: dict[str, str]) -> dict[str, Any]:
    """An `audit` that may be published: a file or folder may be named after a person, so that no name is left in it.

    Args:
        report: the audit.
        digests: of each file name, the sha256 of the file, which only those can compute who have the file.

    Returns:
        The audit with `test_with_twin` as digests, without `worst_pairs`, and without the names in `different_labels`
        and in the `unlisted_twins` of its `review`.
    """
    kept = {key: value for key, value in report.items() if key != "worst_pairs"}
    kept["test_with_twin"] = sorted(digests[name] for name in report["test_with_twin"])
    kept["different_labels"] = _dropped(report["different_labels"], "images")
    if "review" in report:
        unlisted = _dropped(report["review"]["unlisted_twins"], "image", "like")
        kept["review"] = report["review"] | {"unlisted_twins": unlisted}
    return kept


def _dropped(rows: list[dict[str, Any]], *keys: str) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key not in keys} for row in rows]


def headline(report: dict[str, Any]) -> str:
    """The most important finding of an `audit` in one or two sentences."""
    sentence = _test_sentence(report) if "test" in report["splits"] else _whole_sentence(report)
    different = len(report["different_labels"])
    return f"{sentence} Twins with different labels: {different:,}." if different else sentence


def _whole_sentence(report: dict[str, Any]) -> str:
    twins = sum(sum(report["twins"][f"{split}/{split}"]["images"].values()) for split in report["splits"])
    return f"Leakage: no test split to leak into; {twins:,} of {report['images']:,} images have a twin beside them."


def _test_sentence(report: dict[str, Any]) -> str:
    total, leaked = report["splits"]["test"]["images"], len(report["test_with_twin"])
    sentence = (
        f"Leakage: {leaked:,} of {total:,} test images ({leaked / total:.1%}) have a twin in training, "
        f"{report['test_with_identical_file']:,} of them byte for byte"
    )
    known, seen = report["test_with_known_patient"], report["test_with_seen_patient"]
    return (
        f"{sentence}; of the {known:,} whose patient is known, {seen:,} are of a patient in training."
        if known
        else f"{sentence}."
    )


def audit_folder(
    root: str | Path, processes: int = 2, threshold: float = THRESHOLD
) -> tuple[dict[str, Any], AuditTable]:
    """Read every image of a folder and audit it.

    Raises:
        DataError: the folder has no layout that is understood, or images that can't be read: all are named.
        ConfigError: `threshold` is not in (0, 1] or `processes` is below 1.
    """
    table = read_table(scan_folder(root), processes)
    return audit(table, threshold), table


def read_table(layout: FolderLayout, processes: int = 2) -> AuditTable:
    """Read every image of a folder.

    Raises:
        DataError: the layout is not understood, or images can't be read: all are named.
        ConfigError: `processes` is below 1.
    """
    if processes < 1:
        raise ConfigError(f"{processes} processes can't read anything: give 1 or more.")
    if len(layout.problems) > MOST_NAMED:  # what is wrong inside the images could not be said any more
        layout.check()
    files = [(str(image.path), image.file_name) for image in layout.images]
    alone = processes == 1 or len(files) < _FEW_IMAGES
    with nullcontext() if alone else get_context("spawn").Pool(processes) as pool:
        found = [_read(file) for file in files] if pool is None else pool.map(_read, files, chunksize=64)
    raise_problems(layout.root, layout.problems + [problem for _, _, problem in found if problem])
    groups, findings = layout.patient_groups(), layout.findings()
    return AuditTable(
        file_names=[image.file_name for image in layout.images],
        splits=[image.split for image in layout.images],
        labels=[image.label for image in layout.images],
        digests=[digest for digest, _, _ in found],
        thumbnails=np.frombuffer(b"".join(pixels for _, pixels, _ in found), np.uint8).reshape(-1, SIDE, SIDE),
        patient_groups=[groups.get(image.file_name) for image in layout.images],
        findings=[findings.get(image.file_name) for image in layout.images],
    )


def _read(file: tuple[str, str]) -> tuple[str, bytes, str]:
    """Return a file's digest and the bytes of its thumbnail, or what is wrong with it."""
    path, name = file
    try:
        with opened(path, name) as stream:
            content = read_all(stream, MAX_DICOM_BYTES, name)
        return hashlib.sha256(content).hexdigest(), thumbnail(read_slice(content, name)).tobytes(), ""
    except ImageError as error:
        return "", b"", str(error)
    except OSError as error:
        return "", b"", f"{name}: can't be read ({error.strerror})."


def _split_counts(table: AuditTable) -> dict[str, Any]:
    counts = Counter(zip(table.splits, table.labels, strict=True))
    labels = sorted(set(table.labels))
    present = [split for split in _SPLIT_ORDER if split in table.splits]
    per_split = {split: {label: counts[split, label] for label in labels} for split in present}
    return {split: {"images": sum(of_label.values()), "labels": of_label} for split, of_label in per_split.items()}


def _split_pairs(table: AuditTable) -> list[tuple[str, str]]:
    return list(combinations_with_replacement([split for split in _SPLIT_ORDER if split in table.splits], 2))


def _per_splits(table: AuditTable, pairs: Pairs, orientations: bool = False) -> dict[str, Any]:
    """Count pairs, and images that have one, for each pair of splits."""
    splits = np.asarray(table.splits)
    report: dict[str, Any] = {}
    for one, other in _split_pairs(table):
        forward = (splits[pairs.first] == one) & (splits[pairs.second] == other)
        backward = (splits[pairs.first] == other) & (splits[pairs.second] == one)
        found = pairs.select(forward | backward)
        linked = np.union1d(found.first, found.second)
        images = {split: int((splits[linked] == split).sum()) for split in dict.fromkeys((one, other))}
        report[f"{one}/{other}"] = {"pairs": len(found), "images": images}
        if orientations:
            report[f"{one}/{other}"] |= _orientation_counts(found)
    return report


def _orientation_counts(pairs: Pairs) -> dict[str, Any]:
    if not len(pairs):
        return {"orientations": {}}
    counts = np.bincount(pairs.orientation, minlength=len(ORIENTATIONS))
    named = {name: int(n) for name, n in zip(ORIENTATIONS, counts, strict=True) if n}
    return {"orientations": named, "mirrored_share": float(counts[1::2].sum() / counts.sum())}


def _different_labels(table: AuditTable, pairs: Pairs) -> list[dict[str, Any]]:
    labels = np.asarray(table.labels)
    wrong = pairs.select(labels[pairs.first] != labels[pairs.second])
    return [_describe(table, wrong, k) for k in np.argsort(-wrong.similarity, kind="stable")]


def _describe(table: AuditTable, pairs: Pairs, k: int) -> dict[str, Any]:
    i, j = int(pairs.first[k]), int(pairs.second[k])
    return {
        "images": [table.file_names[i], table.file_names[j]],
        "labels": [table.labels[i], table.labels[j]],
        "similarity": round(float(pairs.similarity[k]), 4),
        "orientation": ORIENTATIONS[pairs.orientation[k]],
    }


def _test_images_linked(table: AuditTable, pairs: Pairs) -> list[int]:
    """The test images that a pair joins to one of train or validation."""
    seen, test = np.isin(table.splits, _SEEN), np.asarray(table.splits) == "test"
    linked = [pairs.first[test[pairs.first] & seen[pairs.second]], pairs.second[test[pairs.second] & seen[pairs.first]]]
    return [int(i) for i in np.unique(np.concatenate(linked))]


def _known_patients(table: AuditTable, splits: Sequence[str]) -> list[str]:
    """The patient of each image in `splits`, where known."""
    rows = zip(table.splits, table.patient_groups, strict=True)
    return [group for split, group in rows if group is not None and split in splits]


def _test_images_of_seen_patients(table: AuditTable) -> int:
    seen = set(_known_patients(table, _SEEN))
    return sum(group in seen for group in _known_patients(table, ("test",)))


def _patients(table: AuditTable) -> dict[str, Any]:
    images = {split: Counter(_known_patients(table, (split,))) for split in _SPLIT_ORDER if split in table.splits}
    across = {}
    for one, other in combinations(images, 2):
        shared = images[one].keys() & images[other].keys()
        counts = {split: sum(images[split][group] for group in shared) for split in (one, other)}
        across[f"{one}/{other}"] = {"groups": len(shared), "images": counts}
    known = _known_patients(table, _SPLIT_ORDER)
    return {"known": len(known), "groups": len(set(known)), "across": across}


def _worst_pairs(table: AuditTable, pairs: Pairs, groups: NDArray[np.int64]) -> list[dict[str, Any]]:
    """Different labels first, then across splits, then the most alike; one of each cluster, so that none fills it."""
    labels, splits = np.asarray(table.labels), np.asarray(table.splits)
    same_label, same_split = (column[pairs.first] == column[pairs.second] for column in (labels, splits))
    ranked = pairs.select(np.lexsort((-pairs.similarity, same_split, same_label)))
    best = np.sort(np.unique(groups[ranked.first], return_index=True)[1])[:_MOST_SHOWN]
    return [_describe(table, ranked, int(k)) for k in best]
