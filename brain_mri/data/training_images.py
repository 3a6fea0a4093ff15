"""The images to train on: the train split, grafts if the recipe has any, and groups to draw by."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict

from brain_mri.arguments import DataArguments, RecipeArguments
from brain_mri.data.grafts import graft_of, with_grafts
from brain_mri.data.prepare import PreparedImages
from brain_mri.data.splits import Ints, merge_groups

logger = logging.getLogger(__name__)

DRAW_GROUP = "draw_group"


def training_images(
    images: PreparedImages, splits: DatasetDict, args: DataArguments, recipe: RecipeArguments, size: int, seed: int
) -> DatasetDict:
    """The splits for the trainer; `splits` itself if the recipe neither grafts nor draws by groups, or for a stream.

    Args:
        images: all that was read.
        splits: of `split_images`. Only rows of `train` are made into grafts.
        args: with the threshold of near-duplicates.
        recipe: with `grafts`, `lesions` and `draw_by`.
        size: height and width of the pixels.
        seed: of the grafts.

    Returns:
        The splits, train followed by its grafts and, unless images are drawn one by one, with a column `draw_group`:
        a number for each cluster of near-duplicates or patient. Grafts of one kind and class that share their host's
        group are one group: an epoch drawn by cluster then has tumours and healthy slices of both sources.
    """
    grafting = recipe.grafts or recipe.lesions
    if not grafting and recipe.draw_by == "image":
        return splits
    if args.streaming:
        logger.warning(
            "--streaming reads images as they come: --draw_by %s, grafts and lesions are left out", recipe.draw_by
        )
        return splits
    clusters = _groups(images, splits["train"], args.twin_threshold, by_patient=False)
    train = splits["train"]
    if grafting:
        train = with_grafts(train, images.label_names, clusters, recipe.grafts, size, seed, recipe.lesions)
    if recipe.draw_by != "image":
        by_patient = recipe.draw_by == "patient"
        groups = _groups(images, splits["train"], args.twin_threshold, by_patient) if by_patient else clusters
        train = train.add_column(DRAW_GROUP, np.concatenate([groups, _graft_groups(train, groups)]))
    return DatasetDict({**splits, "train": train})


def _graft_groups(train: Dataset, groups: Ints) -> Ints:
    """A number for each graft, which follow the images that `groups` numbers."""
    n = len(groups)
    group_of = dict(zip(train["file_name"][:n], groups.tolist(), strict=True))
    made = [graft_of(name) for name in train["file_name"][n:]]
    keys = [(kind, group_of[host], label) for (kind, host, _), label in zip(made, train["label"][n:], strict=True)]
    number = {key: i for i, key in enumerate(dict.fromkeys(keys), start=int(groups.max()) + 1)}
    return np.array([number[key] for key in keys], np.int64)


def _groups(images: PreparedImages, rows: Dataset, threshold: float, by_patient: bool) -> Ints:
    """A number for each row: of its cluster of near-duplicates; by patient, of all that are joined by either."""
    place = {name: i for i, name in enumerate(images.rows["file_name"][:])}
    chosen = np.array([place[name] for name in rows["file_name"][:]], np.int64)
    order = np.argsort(chosen)
    pairs = images.near_duplicates(threshold).among(chosen[order], len(images))
    patients: list[Any] = rows["patient_group"][:] if by_patient else [None] * len(rows)
    return merge_groups(patients, order[pairs.first], order[pairs.second])
