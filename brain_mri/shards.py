"""A folder of images as a data set for the Hub: Parquet shards with patients and boxes, a card with the audit.

    python -m brain_mri.shards FOLDER TARGET --license cc0-1.0 --source https://...

TARGET is then a data set that `--data_dir TARGET`, `datasets.load_dataset` and the Hub read alike, images as they were
on disk, byte for byte. `python -m brain_mri.hub` puts it there.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Dataset, Features, Image, List, Value
from huggingface_hub import DatasetCard, DatasetCardData

from brain_mri.errors import ConfigError, run_command
from brain_mri.layout import WHOLE, FolderLayout, ImageFile, scan_folder
from brain_mri.leakage import audit_folder, headline

_SHARD_BYTES = 256 << 20  # of images; the Hub's viewer asks for shards below half a gigabyte
_ORDER = ("train", "validation", "test")


def write_shards(
    folder: str | Path, target: Path, license_: str, source: str, shard_bytes: int = _SHARD_BYTES
) -> dict[str, Any]:
    """Write a folder's images as Parquet shards, with `README.md` and `audit.json` beside them; whole or not at all.

    Args:
        folder: what train.py takes: splits, classes in them, `patients.csv` and `boxes.csv` where there are.
        target: the folder to make.
        license_: of the images, as the Hub names licences.
        source: where the images come from, an address or a sentence.
        shard_bytes: of images in a shard, at most, unless a single image is larger.

    Returns:
        The audit, see `leakage.audit`.

    Raises:
        DataError: anything wrong with `folder`.
        ConfigError: `target` is there already.
    """
    if target.exists():
        raise ConfigError(f"{target} is there already: name a new folder, or remove it first.")
    report, _ = audit_folder(folder)
    layout = scan_folder(folder)
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "data").mkdir(parents=True)
    counts = {}
    for split in sorted({image.split for image in layout.images}, key=(*_ORDER, WHOLE).index):
        images = [image for image in layout.images if image.split == split]
        counts["train" if split == WHOLE else split] = len(images)
        _write_split(layout, images, "train" if split == WHOLE else split, partial / "data", shard_bytes)
    (partial / "audit.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    _card(layout, counts, report, license_, source).save(partial / "README.md")
    partial.rename(target)
    return report


def _write_split(layout: FolderLayout, images: Sequence[ImageFile], split: str, folder: Path, shard_bytes: int) -> None:
    groups, boxes = layout.patient_groups(), layout.boxes()
    features = Features(
        {
            "image": Image(),
            "label": ClassLabel(names=list(layout.label_names)),
            "file_name": Value("string"),
            "patient_group": Value("string"),
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
            "box": [list(boxes[name]) if (name := image.file_name) in boxes else None for image in shard],
        }
        Dataset.from_dict(rows, features=features).to_parquet(
            folder / f"{split}-{number:05}-of-{len(shards):05}.parquet"
        )


def _shards(images: Sequence[ImageFile], most: int) -> Iterator[list[ImageFile]]:
    """Runs of images of at most `most` bytes together."""
    shard: list[ImageFile] = []
    held = 0
    for image in images:
        size = image.path.stat().st_size
        if shard and held + size > most:
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
{patients} images), `box` (center x, center y, width and height of the tumour as fractions of the image, for {boxes}).

## Leakage audit

{audit}

In full: `audit.json`. Made with `python -m brain_mri.shards`.
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Write the shards of a folder from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m brain_mri.shards", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", help="a folder of images as train.py takes it")
    parser.add_argument("target", type=Path, help="the folder to make")
    parser.add_argument(
        "--license", required=True, help="of the images, as the Hub names licences: cc0-1.0, cc-by-4.0 ..."
    )
    parser.add_argument("--source", required=True, help="where the images come from: an address or a sentence")
    options = parser.parse_args(argv)
    report = write_shards(options.folder, options.target, options.license, options.source)
    size = sum(path.stat().st_size for path in options.target.rglob("*.parquet")) / 1e6
    print(f"{headline(report)}\n{report['images']:,} images, {size:.1f} MB in {options.target}")


if __name__ == "__main__":
    run_command(main)
