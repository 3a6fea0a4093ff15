"""Assigning the images of a folder to folds by patient, and writing one fold as a folder of its own. No torch."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from brain_mri.data.duplicates import near_duplicate_pairs
from brain_mri.data.layout import WHOLE, FolderLayout, ImageFile
from brain_mri.data.linked_folder import lay_out
from brain_mri.data.splits import merge_groups
from brain_mri.errors import ConfigError, DataError
from brain_mri.leakage.audit import read_table

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """Which fold tests which image.

    Attributes:
        fold_of: `{file_name: fold}`, folds counted from 1.
        groups: how many sets of images stay together; with an author's folds, how many patient groups are known.
        largest_group: images in the largest of them.
        divided_groups: how many patient groups lie in more than one fold; 0 unless the folds are an author's.
    """

    fold_of: dict[str, int]
    groups: int
    largest_group: int
    divided_groups: int

    @property
    def sizes(self) -> dict[int, int]:
        """Test images of each fold."""
        return dict(sorted(Counter(self.fold_of.values()).items()))


def grouped_folds(layout: FolderLayout, n_folds: int, seed: int, threshold: float) -> Plan:
    """Assign patients to folds stratified by label (StratifiedGroupKFold); those that share near-duplicates together.

    Raises:
        ConfigError: fewer than 2 folds.
        DataError: no patients are known, or a class has too few of them to be on both sides of every fold.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # half a second, which --help does without

    if n_folds < 2:
        raise ConfigError(f"--folds {n_folds}: give 2 or more.")
    _patients(layout)
    table = read_table(layout, processes=1)
    pairs = near_duplicate_pairs(table.thumbnails, threshold)
    groups = merge_groups(table.patient_groups, pairs.first, pairs.second)
    labels = np.asarray(table.labels)
    for label in np.unique(labels):
        if (known := len(np.unique(groups[labels == label]))) < n_folds:
            raise DataError(f"{label} has {known} patient groups, too few for {n_folds} folds: lower --folds.")
    folds = np.zeros(len(table), np.int64)
    dealer = StratifiedGroupKFold(n_splits=n_folds, shuffle=True, random_state=seed)
    for number, (_, held) in enumerate(dealer.split(labels, labels, groups), start=1):
        folds[held] = number
    _check_classes(labels, folds)
    fold_of = dict(zip(table.file_names, folds.tolist(), strict=True))
    sizes = np.bincount(groups)
    return Plan(fold_of, len(sizes), int(sizes.max()), divided_groups=0)


def author_folds(layout: FolderLayout, column: str) -> Plan:
    """Take the folds of the column `column` of `patients.csv` as they are, even if they divide a patient.

    Raises:
        DataError: no patients are known, an image has no fold, folds are not numbered 1, 2, ... or one lacks a class.
    """
    patients = _patients(layout)
    given = {name: (row[column] or "").strip() for name, row in layout.side_table("patients.csv", (column,))}
    names = [image.file_name for image in layout.images]
    if missing := [name for name in names if not given.get(name, "").isdecimal()]:
        raise DataError(f"patients.csv: {len(missing)} images have no number as {column} ({missing[0]} ...): fill it.")
    fold_of = {name: int(given[name]) for name in names}
    if (numbers := sorted(set(fold_of.values()))) != list(range(1, max(len(numbers), 2) + 1)):
        raise DataError(f"the folds in the column {column!r} are {numbers}: number them 1, 2, ... without a gap.")
    _check_classes(np.asarray([i.label for i in layout.images]), np.asarray(list(fold_of.values())))
    places = {(group, fold_of[name]) for name, group in patients.items()}
    divided = sum(folds > 1 for folds in Counter(group for group, _ in places).values())
    return Plan(fold_of, len(sizes := Counter(patients.values())), max(sizes.values()), divided)


def _patients(layout: FolderLayout) -> dict[str, str]:
    patients = layout.patient_groups()
    if not patients:
        raise DataError(
            f"{layout.root} has no patients.csv that names a patient: add one (file_name, patient_group), or put the "
            "slices of each patient into a folder of their own inside the class; near-duplicates alone don't tell "
            "which slices are of one patient."
        )
    if unknown := len(layout.images) - len(patients):
        logger.info("%d of %d images have no known patient: only twins keep them together", unknown, len(layout.images))
    return patients


def _check_classes(labels: npt.NDArray[Any], folds: npt.NDArray[np.int64]) -> None:
    for number, label in ((n, x) for n in np.unique(folds) for x in np.unique(labels)):
        if not 0 < (folds[labels == label] == number).sum() < (labels == label).sum():
            raise DataError(f"fold {number} has none or all of the class {label}: choose fewer folds or other ones.")


def build_fold(layout: FolderLayout, plan: Plan, number: int, folder: Path) -> Path:
    """Write fold `number` as an image folder: links in `train/` and `test/`, `patients.csv`, `boxes.csv`.

    It appears whole or not at all; an existing `folder` is kept. Files are copied if links are impossible, or if the
    data has two links to one file, which as links would be the same image.
    """
    if folder.exists():
        return folder
    names = {image.file_name: _name_in_fold(image, plan.fold_of[image.file_name] == number) for image in layout.images}
    often = Counter(names.values())  # slices of two patients may have one name
    for file_name, name in names.items():
        if often[name] > 1:
            names[file_name] = f"{name.rpartition('/')[0]}/{file_name.replace('/', '--')}"
    return lay_out(layout, names, folder)


def _name_in_fold(image: ImageFile, tested: bool) -> str:
    """Where names are unique within a split and class, the split in front of the name keeps them so when pooled."""
    name = image.path.name if image.split == WHOLE else f"{image.split}-{image.path.name}"
    return f"{'test' if tested else 'train'}/{image.label}/{name}"
