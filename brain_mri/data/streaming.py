"""Training images read from Parquet shards as they are needed, for sets larger than the disk (`--streaming`).

Each process reads its own shards, and so does each of its workers. Labels, patients and boxes, a few bytes an image,
are read before the first step. The image files pass through a shuffling buffer, and are decoded and resized for their
batch. The images of an epoch and their order depend on the seed, the epoch and the division of the shards only, so a
resumed run is exact.
"""

from __future__ import annotations

import hashlib
import json
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec  # type: ignore[import-untyped]
import numpy as np
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from accelerate import PartialState
from datasets import Dataset, Image, load_dataset

from brain_mri.arguments import DataArguments
from brain_mri.data.hub_dataset import Schema, read_schema, shard_files
from brain_mri.data.prepare import PreparedImages
from brain_mri.data.splits import in_words
from brain_mri.data.streamed_split import NO_BOX, Division, StreamedSplit
from brain_mri.data.transforms import Preprocessing
from brain_mri.errors import ConfigError, DataError
from brain_mri.model_folder import STREAM
from brain_mri.utils.files import read_json, write_json

logger = logging.getLogger(__name__)

_SIDE_COLUMNS = ("file_name", "patient_group", "finding", "box")  # what `brain_mri.shards` writes beside the image
_READERS = 8  # threads that fetch the small columns; over the network each shard takes some round trips
_SORTED = 0.9  # share of neighbours with the same label from which shards count as sorted by class


def open_stream(
    data: DataArguments, training: Any, search_trials: int, preprocessing: Preprocessing, images: PreparedImages
) -> StreamedSplit:
    """The train split of `--streaming`; logs how it is read.

    Args:
        data: where the shards are.
        training: TrainingArguments.
        search_trials: of the recipe.
        preprocessing: the model's.
        images: the validation and test images.

    Raises:
        ConfigError: an option that does not work with a stream.
        DataError: no such shards, or shards of other classes.
    """
    if search_trials:
        raise ConfigError("--search_trials reads the training images many times: search without --streaming.")
    if training.ignore_data_skip:
        raise ConfigError("--ignore_data_skip would begin an epoch of the stream again on resuming: leave it out.")
    files = shard_files(data)["train"]
    source = load_dataset("parquet", data_files={"train": files}, split="train", streaming=True)
    schema = read_schema(source.features, data, lambda column: _values(files, column))
    if schema.label_names != images.label_names:
        raise DataError(
            f"{data.data_dir}: train has the labels {', '.join(schema.label_names)}, but validation "
            f"{', '.join(images.label_names)}: write the shards of all splits at once."
        )
    beside = [name for name in _SIDE_COLUMNS if name in source.column_names]
    source = source.select_columns([schema.image, schema.label, *beside])
    source = source.cast_column(schema.image, Image(decode=False))
    sides = _read_sides(files, schema, beside)
    if any(findings := sides.pop("finding", [])):
        source = source.filter(lambda finding: not finding, input_columns=["finding"])
        sides = {name: column if name == "shards" else _without(findings, column) for name, column in sides.items()}
        removed = len(findings) - len(sides["label"])
        logger.info(f"{removed} train images are left out, for their findings: {in_words(findings)}")
    division = Division(
        rank=training.process_index,
        processes=training.world_size,
        workers=training.dataloader_num_workers,
        batch_size=training.train_batch_size,
        seed=training.seed if training.data_seed is None else training.data_seed,
        buffer=data.shuffle_buffer,
    )
    stream = StreamedSplit(source, sides, preprocessing, division, schema)
    _say_how(stream, len(files), images)
    return stream


def _without(findings: list[str | None], column: list[Any]) -> list[Any]:
    """The column's values for images without a finding."""
    return [value for value, finding in zip(column, findings, strict=True) if not finding]


def _values(files: list[str], column: str) -> set[Any]:
    """Each value of a small column of the shards."""

    def read(path: str) -> set[Any]:
        with fsspec.open(path, "rb") as opened:
            return set(pq.read_table(opened, columns=[column])[column].unique().to_pylist())

    with ThreadPoolExecutor(_READERS) as pool:
        return set().union(*pool.map(read, files))


def _read_sides(files: list[str], schema: Schema, beside: list[str]) -> dict[str, list[Any]]:
    """The small columns of all images, and the `shards`: name, size and rows of each file."""
    columns: dict[str, list[Any]] = {name: [] for name in ("label", *beside, "shards")}

    def read(path: str) -> tuple[int, Any]:
        with fsspec.open(path, "rb") as opened:
            return int(opened.size), pq.read_table(opened, columns=[schema.label, *beside])

    with ThreadPoolExecutor(_READERS) as pool:
        tables = list(pool.map(read, files))
    for path, (size, table) in zip(files, tables, strict=True):
        columns["shards"].append([path.rsplit("/", 1)[-1], size, len(table)])
        columns["label"] += [schema.ids[label] for label in table[schema.label].to_pylist()]
        for name in beside:
            columns[name] += table[name].to_pylist()
    columns["box"] = [box or NO_BOX for box in columns.get("box", [None] * len(columns["label"]))]
    return columns


def _say_how(stream: StreamedSplit, shards: int, images: PreparedImages) -> None:
    processes, buffer = stream.division.processes, stream.division.buffer
    logger.info(
        f"streaming {len(stream['label']):,} training images from {shards} shards through a buffer of {buffer}; "
        "validation and test are kept on disk"
    )
    if not stream.owns_shards:
        logger.warning(
            f"{shards} shards are fewer than the {processes} processes: each process reads all of them and keeps one "
            f"image in {processes}; write at least {processes} shards (--shard_mb) so that each reads its own."
        )
    elif shards % processes:
        logger.warning(
            f"{shards} shards can't be divided evenly among {processes} processes: in each epoch some images are seen "
            "twice and others not at all, different ones each time."
        )
    if _share_of_equal_neighbours(stream) > _SORTED:
        logger.warning(
            f"the shards are sorted by class, which a buffer of {buffer} images can't mix: write them with "
            "brain_mri.shards, which shuffles, or raise --shuffle_buffer."
        )
    held_out = {group for group in images.rows["patient_group"][:] if group}
    if shared := held_out & set(stream.sides.get("patient_group", [])):
        logger.warning("%d patients of the train split are in validation or test too", len(shared))


def _share_of_equal_neighbours(stream: StreamedSplit) -> float:
    """The share of images whose neighbour in the shards has the same label; 0 if the buffer holds all of them."""
    labels = np.asarray(stream["label"])
    if len(labels) <= stream.division.buffer or len(np.unique(labels)) < 2:
        return 0.0
    return float((labels[1:] == labels[:-1]).mean())


def keep_record(stream: StreamedSplit, folder: Path, checkpoint: str | None) -> None:
    """Write `stream.json` into the model folder; with a `checkpoint`, compare the stream with it first.

    Raises:
        ConfigError: the checkpoint was trained on another stream.
    """
    division = stream.division
    record = {
        "images": len(stream["label"]),
        "shards": len(stream["shards"]),
        "fingerprint": hashlib.sha256(json.dumps([stream["shards"], stream["label"]]).encode()).hexdigest(),
        "processes": division.processes,
        "dataloader_num_workers": division.workers,
        "per_device_train_batch_size": division.batch_size,
        "data_seed": division.seed,
        "shuffle_buffer": division.buffer,
    }
    earlier = read_json(folder / STREAM)
    changed = [
        f"{key} was {earlier.get(key)}, is {value}" for key, value in record.items() if earlier.get(key) != value
    ]
    if checkpoint and changed:
        raise ConfigError(
            f"--resume_from_checkpoint: this stream is not the one that {checkpoint} was trained on "
            f"({'; '.join(changed)}): undo these changes, or start again in another --output_dir."
        )
    if PartialState().is_main_process:
        write_json(record, folder / STREAM)


def known_images(train: Dataset | StreamedSplit) -> Dataset:
    """Training images for the guard: all of a prepared split, some 2,000 of a streamed one (in the main process)."""
    if not isinstance(train, StreamedSplit):
        return train
    return train.sample() if PartialState().is_main_process else Dataset.from_dict({})
