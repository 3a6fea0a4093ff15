"""A folder of images as a data set for the Hub: Parquet shards with patients and boxes, a card with the audit."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, Features, Image, List, Value
from huggingface_hub import DatasetCard, DatasetCardData

from brain_mri.data.duplicates import THRESHOLD, Pairs, near_duplicate_pairs
from brain_mri.data.image_folder import scan_folder
from brain_mri.data.image_table import AuditTable
from brain_mri.data.layout import WHOLE, FolderLayout, ImageFile
from brain_mri.data.splits import hold_out, merge_groups
from brain_mri.errors import ConfigError, DataError
from brain_mri.leakage.audit import audit, headline, read_table
from brain_mri.model_folder import AUDIT, CARD
from brain_mri.utils.files import write_json, written_whole

logger = logging.getLogger(__name__)
SHARD_MB = 256  # of images; the Hub's viewer asks for shards below half a gigabyte
_MB = 1 << 20
_SEED = 42  # of the rows' order and of the held-out split
_ORDER = ("train", "validation", "test")


def write_shards(
    folder: str | Path,
    target: Path,
    license_: str,
    source: str,
    shard_bytes: int = SHARD_MB * _MB,
    validation_fraction: float | None = None,
) -> dict[str, Any]:
    """Write a folder's images as Parquet shards, with `README.md` and `audit.json` beside them; whole or not at all.

    The same folder gives the same files, byte for byte, as long as the same pyarrow writes them.

    Args:
        folder: what train.py takes: splits, classes in them, and the tables beside them where there are.
        target: the folder to make.
        license_: of the images, as the Hub names licences.
        source: where the images come from, an address or a sentence.
        shard_bytes: of images in a shard at most, unless a single image is larger. The shards of a split are about
            equally large.
        validation_fraction: share of train to hold out for validation, above 0 and at most 0.5: whole patients and
            clusters of near-duplicates, stratified by class. None keeps the folder's splits.

    Returns:
        The audit of the splits as they are written, see `leakage.audit`.

    Raises:
        DataError: `folder` can't be used, or has too few patients to hold any out.
        ConfigError: `target` exists, a number is out of range, or the folder already has a validation split.
    """
    if target.exists():
        raise ConfigError(f"{target} is there already: name a new folder, or remove it first.")
    if shard_bytes < 1:
        raise ConfigError("--shard_mb: give 1 megabyte or more.")
    layout = scan_folder(folder)
    table = read_table(layout)
    _refuse_dicom(layout)
    for note in layout.notes:
        logger.warning(note)
    report = audit(table)
    if validation_fraction is not None:
        table, pairs = _with_validation(table, validation_fraction)
        report = audit(table, THRESHOLD, pairs)
    counts = {}
    with written_whole(target, folder=True) as partial:
        (partial / "data").mkdir()
        for split in sorted(set(table.splits), key=(*_ORDER, WHOLE).index):
            images = [image for image, its in zip(layout.images, table.splits, strict=True) if its == split]
            order = np.random.default_rng(_SEED).permutation(len(images))  # a stream mixes only neighbours
            name = "train" if split == WHOLE else split
            counts[name] = len(images)
            _write_split(layout, [images[i] for i in order], name, partial / "data", shard_bytes)
        write_json(report, partial / AUDIT)
        _card(layout, counts, report, license_, source).save(partial / CARD)
    return report


def _refuse_dicom(layout: FolderLayout) -> None:
    """Shards are passed on as they are, and the header of a DICOM file names its patient.

    Raises:
        DataError: there is such a file.
    """
    if dicom := [image.file_name for image in layout.images if image.kind == "dicom"]:
        raise DataError(
            f"{len(dicom)} images are DICOM files ({dicom[0]} ...), whose headers name patients: export their slices "
            "as PNG, and write the shards of these."
        )


def _with_validation(table: AuditTable, fraction: float) -> tuple[AuditTable, Pairs]:
    """The images with some of train moved to a validation split, and the near-duplicates among all of them."""
    if not 0 < fraction <= 0.5:
        raise ConfigError(f"--validation_fraction {fraction}: give a share above 0 and at most 0.5.")
    if "validation" in table.splits:
        raise ConfigError("--validation_fraction: the folder has a validation split of its own: leave the option out.")
    splits = np.array([*table.splits], dtype="<U10")  # as long as "validation"
    splits[splits == WHOLE] = "train"
    pool = np.flatnonzero(splits == "train")
    pairs = near_duplicate_pairs(table.thumbnails, THRESHOLD)
    within = pairs.among(pool, len(table))
    groups = merge_groups([table.patient_groups[i] for i in pool], within.first, within.second)
    names, labels = np.unique([table.labels[i] for i in pool], return_inverse=True)
    _, held = hold_out(labels, groups, fraction, _SEED, names.tolist())
    splits[pool[held]] = "validation"
    return replace(table, splits=splits.tolist()), pairs


def _write_split(layout: FolderLayout, images: Sequence[ImageFile], split: str, folder: Path, shard_bytes: int) -> None:
    groups, boxes, findings = layout.patient_groups(), layout.boxes(), layout.findings()
    features = Features(
        {
            "image": Image(),
            "label": ClassLabel(names=list(layout.label_names)),
            "file_name": Value("string"),
            "patient_group": Value("string"),
            "finding": Value("string"),
            "box": List(Value("float32")),
        }
    )
    shards = list(_shards(images, shard_bytes))
    for number, shard in enumerate(shards):
        rows = {
            "image": [{"bytes": image.path.read_bytes(), "path": Path(image.file_name).name} for image in shard],
            "label": [image.label for image in shard],
            "file_name": [image.file_name for image in shard],
            "patient_group": [groups.get(image.file_name) for image in shard],
            "finding": [findings.get(image.file_name) for image in shard],
            "box": [list(boxes[name]) if (name := image.file_name) in boxes else None for image in shard],
        }
        Dataset.from_dict(rows, features=features).to_parquet(
            folder / f"{split}-{number:05}-of-{len(shards):05}.parquet"
        )


def _shards(images: Sequence[ImageFile], most: int) -> Iterator[list[ImageFile]]:
    """Divide the images into shards of at most `most` bytes, about equally large: processes share a stream by shard."""
    total = sum(image.path.stat().st_size for image in images)
    aim = total / -(-total // most)
    shard: list[ImageFile] = []
    held = 0
    for image in images:
        size = image.path.stat().st_size
        if shard and (held + size > most or held >= aim):
            yield shard
            shard, held = [], 0
        shard.append(image)
        held += size
    if shard:
        yield shard


def _card(
    layout: FolderLayout, counts: dict[str, int], report: dict[str, Any], license_: str, source: str
) -> DatasetCard:
    total = sum(counts.values())
    metadata = DatasetCardData(
        license=license_,
        task_categories=["image-classification"],
        tags=["medical", "mri", "brain-tumor", "not-for-diagnosis"],
        pretty_name=layout.root.name,
        size_categories=[next(name for most, name in _SIZES if total < most)],
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"data/{split}-*.parquet"} for split in counts],
            }
        ],
    )
    splits = "\n".join(f"| {split} | {number:,} |" for split, number in counts.items())
    text = _CARD.format(
        name=layout.root.name,
        source=source,
        splits=splits,
        labels=", ".join(f"`{name}`" for name in layout.label_names),
        patients=f"{len(layout.patient_groups()):,}",
        findings=f"{len(layout.findings()):,}",
        boxes=f"{len(layout.boxes()):,}",
        audit=headline(report),
    )
    return DatasetCard(f"---\n{metadata.to_yaml()}\n---\n\n{text}")


_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (float("inf"), "100K<n<1M"))
_CARD = """# {name}

Slices of brain MRI, sorted into classes. **Research and teaching only, never diagnosis.**

Source: {source}

| split | images |
|---|---:|
{splits}

Columns: `image` (the file as it was), `label` ({labels}), `file_name`, `patient_group` (who the slice is of, known for
{patients} images), `finding` (of {findings} images that are not what their class says: training leaves them out),
`box` (center x, center y, width and height of the tumour as fractions of the image, for {boxes}).

## Leakage audit

{audit}

In full: `audit.json`. Made with `python -m brain_mri.shards`.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `write_shards`."""
    add = parser.add_argument
    add("--license", required=True, help="of the images, as the Hub names licences: cc0-1.0, cc-by-4.0 ...")
    add("--source", required=True, help="where the images come from: an address or a sentence")
    add(
        "--validation_fraction",
        type=float,
        metavar="SHARE",
        help="hold so much of train out as a validation split, whole patients together (default: the folder's splits)",
    )
    add("--shard_mb", type=int, default=SHARD_MB, help="megabytes of images in a shard, at most (default: %(default)s)")


def shard_options(options: argparse.Namespace) -> dict[str, Any]:
    """The options of `add_options` as arguments of `write_shards`."""
    return {
        "license_": options.license,
        "source": options.source,
        "shard_bytes": options.shard_mb * _MB,
        "validation_fraction": options.validation_fraction,
    }
