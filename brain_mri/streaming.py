"""Training images read from Parquet shards as they are needed, for sets larger than the disk (`--streaming`).

Each process reads its own shards, and in it each worker. Labels, patients and boxes, a few bytes an image, are read
whole before the first step; the pictures pass through a shuffling buffer as the files they are, and are decoded and
resized when a batch takes them. Which images an epoch shows in which order depends on the seed, the epoch and the
division of the shards, never on what was read before: that is what makes a resumed run exact.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import fsspec  # type: ignore[import-untyped]
import numpy as np
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import torch
from accelerate import PartialState
from accelerate.data_loader import DataLoaderShard
from datasets import Dataset, Image, IterableDataset, load_dataset
from datasets.distributed import split_dataset_by_node
from torch.utils.data import get_worker_info

from brain_mri.arguments import DataArguments
from brain_mri.data import PreparedImages, read_schema, shard_files
from brain_mri.errors import ConfigError, DataError, ImageError
from brain_mri.files import read_json, write_json
from brain_mri.images import read_image
from brain_mri.transforms import Preprocessing, pack

logger = logging.getLogger(__name__)

_RECORD = "stream.json"
_SIDE_COLUMNS = ("file_name", "patient_group", "box")  # what `brain_mri.shards` writes beside image and label
_NO_BOX = [float("nan")] * 4
_KNOWN_IMAGES = 2000  # that stand for the training images where some have to be looked at again
_SORTED = 0.9  # of neighbours in a shard with the same label: shards that are sorted by class


@dataclass(frozen=True)
class Division:
    """How a stream is dealt out: every field decides which images a step is trained on.

    Attributes:
        rank: this process, of `processes`.
        processes: that train together.
        workers: of each process's DataLoader; 0 reads in the process itself.
        batch_size: images per process and step of the DataLoader.
        seed: of the order.
        buffer: images among which the next ones are drawn.
    """

    rank: int
    processes: int
    workers: int
    batch_size: int
    seed: int
    buffer: int


class StreamedSplit(torch.utils.data.IterableDataset[Any]):
    """The train split as one process reads it, with as many rows per epoch in every process.

    Where the shards of a process hold fewer images than its share, it begins them again, in another order; where they
    hold more, the epoch ends before they do. It answers to what a prepared `Dataset` is asked about columns, of all
    images and not of this process's alone: `split["label"]`, `split["box"]`, `column_names`, `select_columns`.
    """

    def __init__(
        self,
        source: IterableDataset,
        sides: dict[str, list[Any]],
        preprocessing: Preprocessing,
        division: Division,
        names: tuple[str, str, list[int]],
    ) -> None:
        """Wrap `source`; see `open_stream`, which makes it.

        Args:
            source: rows with encoded images, unshuffled and undivided.
            sides: of all images: `label`, our numbers, and `box`, and others that it has.
            preprocessing: the model's.
            division: how it is dealt out.
            names: of the image column and of the label column, and our number of each of its labels.
        """
        self.sides, self.preprocessing, self.division = sides, preprocessing, division
        self._source, self._names = source, names
        self.column_names = ["pixels", "label", "box", "file_name"]
        # In shared memory: workers that outlive an epoch have to learn of the next one.
        self._epoch = torch.tensor(0).share_memory_()  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        """Rows of this process in an epoch: all images, divided by the processes and rounded up."""
        return -(-len(self.sides["label"]) // self.division.processes)

    def __getitem__(self, column: str) -> list[Any]:
        """A column of all images, without reading a picture."""
        return self.sides[column]

    def select_columns(self, columns: list[str]) -> StreamedSplit:
        """The same stream with fewer columns in its rows."""
        other = StreamedSplit(self._source, self.sides, self.preprocessing, self.division, self._names)
        other.column_names = list(columns)
        return other

    def set_epoch(self, epoch: int) -> None:
        """Shuffle for another epoch, from its beginning."""
        self._epoch.fill_(epoch)

    @property
    def owns_shards(self) -> bool:
        """Whether there are shards enough that each process reads its own; if not, each reads all of them."""
        return bool(self._source.num_shards >= self.division.processes)

    def _rows(self, attempt: int) -> IterableDataset:
        """What this process reads of the stream in this epoch, in the order of the `attempt`-th pass over it."""
        entropy = [self.division.seed, int(self._epoch), attempt]
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])  # the same in every process
        shuffled = self._source.shuffle(seed=seed, buffer_size=self.division.buffer)
        strategy = "shards" if self.owns_shards else "examples"
        return split_dataset_by_node(shuffled, self.division.rank, self.division.processes, strategy)

    def _share(self) -> int:
        """Rows that this worker owes: whole batches in turn with the other workers, so that they add up to `len`."""
        worker = get_worker_info()
        if worker is None:
            return len(self)
        readers = min(worker.num_workers, int(self._rows(0).num_shards))  # those beyond the shards have none to read
        batches = -(-len(self) // self.division.batch_size)
        mine = range(worker.id, batches, readers) if worker.id < readers else range(0)
        missing = batches * self.division.batch_size - len(self) if batches - 1 in mine else 0
        return len(mine) * self.division.batch_size - missing

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Decoded and resized rows of this epoch.

        Raises:
            DataError: an image can't be read, or the shards have no row for this process.
        """
        wanted = self._share()
        for attempt in count():
            before = wanted
            for row in islice(self._rows(attempt), wanted):
                yield self._ready(row)
                wanted -= 1
            if not wanted:
                return
            if wanted == before:
                raise DataError("a process found no image in its shards: write fewer or fuller shards.")

    def _ready(self, row: dict[str, Any]) -> dict[str, Any]:
        image_column, label_column, ids = self._names
        encoded = row[image_column]
        name = row.get("file_name") or encoded["path"] or "an image without a name"
        data = encoded["bytes"] if encoded["bytes"] is not None else Path(encoded["path"]).read_bytes()
        try:
            pixels = self.preprocessing.pixels(read_image(data, name=name))
        except ImageError as error:
            raise DataError(
                f"{error} It is in the train split that is streamed: write the shards without it."
            ) from error
        ready = {
            "pixels": pack(pixels),
            "label": ids[row[label_column]],
            "box": row.get("box") or _NO_BOX,
            "file_name": name,
        }
        return {column: ready[column] for column in self.column_names}

    def loader(self, args: Any, collator: Any, device: torch.device) -> DataLoaderShard:
        """The DataLoader of `Trainer`'s arguments, for rows that are divided among the processes already."""
        return DataLoaderShard(
            self,
            device=device,
            _drop_last=args.dataloader_drop_last,
            batch_size=self.division.batch_size,
            collate_fn=collator,
            drop_last=args.dataloader_drop_last,
            num_workers=self.division.workers,
            pin_memory=args.dataloader_pin_memory,
            persistent_workers=args.dataloader_persistent_workers,
            prefetch_factor=args.dataloader_prefetch_factor,
        )

    def sample(self, most: int = _KNOWN_IMAGES) -> Dataset:
        """The first images of the shuffled stream, prepared: `most` of them, and more until every class is seen."""
        waiting, kept = set(self.sides["label"]), list[Any]()
        _, label_column, ids = self._names
        for row in self._rows(0):
            label = ids[row[label_column]]
            if len(kept) < most or label in waiting:
                kept.append(self._ready(row))
            waiting.discard(label)
            if len(kept) >= most and not waiting:
                break
        return Dataset.from_list(kept)


def open_stream(
    data: DataArguments, training: Any, search_trials: int, preprocessing: Preprocessing, images: PreparedImages
) -> StreamedSplit:
    """The train split of `--streaming`, and in a few sentences how it is read.

    Args:
        data: where the shards are.
        training: TrainingArguments.
        search_trials: of the recipe.
        preprocessing: the model's.
        images: the validation and test images, which are held in memory as ever.

    Raises:
        ConfigError: an option that a stream can't follow.
        DataError: no such shards, or shards of other classes.
    """
    if search_trials:
        raise ConfigError("--search_trials reads the training images many times: search without --streaming.")
    if training.ignore_data_skip:
        raise ConfigError("--ignore_data_skip would begin an epoch of the stream again on resuming: leave it out.")
    files = shard_files(data)["train"]
    source = load_dataset("parquet", data_files={"train": files}, split="train", streaming=True)
    image_column, label_column, label_names, ids = read_schema(source.features, data.data_dir)
    if label_names != images.label_names:
        raise DataError(
            f"{data.data_dir}: train has the labels {', '.join(label_names)}, but validation "
            f"{', '.join(images.label_names)}: write the shards of all splits at once."
        )
    beside = [name for name in _SIDE_COLUMNS if name in source.column_names]
    source = source.select_columns([image_column, label_column, *beside]).cast_column(image_column, Image(decode=False))
    sides = _read_sides(files, label_column, ids, beside)
    division = Division(
        rank=training.process_index,
        processes=training.world_size,
        workers=training.dataloader_num_workers,
        batch_size=training.train_batch_size,
        seed=training.seed if training.data_seed is None else training.data_seed,
        buffer=data.shuffle_buffer,
    )
    stream = StreamedSplit(source, sides, preprocessing, division, (image_column, label_column, ids))
    _say_how(stream, len(files), images)
    return stream


def _read_sides(files: list[str], label_column: str, ids: list[int], beside: list[str]) -> dict[str, list[Any]]:
    """Labels and what else is small, of all images, and the `shards`: name, size and rows of each file."""
    columns: dict[str, list[Any]] = {name: [] for name in ("label", *beside, "shards")}
    for path in files:
        with fsspec.open(path, "rb") as opened:
            table = pq.read_table(opened, columns=[label_column, *beside])
            columns["shards"].append([path.rsplit("/", 1)[-1], int(opened.size), len(table)])
        columns["label"] += [ids[label] for label in table[label_column].to_pylist()]
        for name in beside:
            columns[name] += table[name].to_pylist()
    columns["box"] = [box or _NO_BOX for box in columns.get("box", [None] * len(columns["label"]))]
    return columns


def _say_how(stream: StreamedSplit, shards: int, images: PreparedImages) -> None:
    rows, division = len(stream["label"]), stream.division
    logger.info(
        "streaming %s training images from %d shards through a buffer of %d; validation and test are held on disk",
        f"{rows:,}",
        shards,
        division.buffer,
    )
    if not stream.owns_shards:
        logger.warning(
            "%d shards are fewer than the %d processes: each process reads all of them and keeps one image in %d; "
            "write at least %d shards (--shard_mb) so that each reads its own.",
            shards,
            division.processes,
            division.processes,
            division.processes,
        )
    elif shards % division.processes:
        logger.warning(
            "%d shards can't be dealt out evenly to %d processes: in each epoch some images are seen twice and others "
            "not at all, other ones in the next.",
            shards,
            division.processes,
        )
    if _share_of_equal_neighbours(stream) > _SORTED:
        logger.warning(
            "the shards are sorted by class, which a buffer of %d images can't mix: write them with brain_mri.shards, "
            "which shuffles, or raise --shuffle_buffer.",
            division.buffer,
        )
    held_out = {group for group in images.rows["patient_group"] if group}
    if shared := held_out & set(stream.sides.get("patient_group", [])):
        logger.warning("%d patients of the train split are in validation or test too", len(shared))


def _share_of_equal_neighbours(stream: StreamedSplit) -> float:
    """The share of images whose neighbour in the shards has the same label; 0 where the buffer holds all of them."""
    labels = np.asarray(stream["label"])
    if len(labels) <= stream.division.buffer or len(np.unique(labels)) < 2:
        return 0.0
    return float((labels[1:] == labels[:-1]).mean())


def keep_record(stream: StreamedSplit, folder: Path, checkpoint: str | None) -> None:
    """Write `stream.json` into the model folder; going on from a `checkpoint`, hold the stream against it.

    Raises:
        ConfigError: the stream is not the one that the checkpoint was trained on, so that what comes next can't be.
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
    earlier = read_json(folder / _RECORD)
    changed = [
        f"{key} was {earlier.get(key)}, is {value}" for key, value in record.items() if earlier.get(key) != value
    ]
    if checkpoint and changed:
        raise ConfigError(
            f"--resume_from_checkpoint: this stream is not the one that {checkpoint} was trained on "
            f"({'; '.join(changed)}): go on as it began, or start again in another --output_dir."
        )
    if PartialState().is_main_process:
        write_json(record, folder / _RECORD)


def known_images(train: Dataset | StreamedSplit) -> Dataset:
    """Training images to look at again: all of a prepared split, some 2,000 of a streamed one (in the main process)."""
    if not isinstance(train, StreamedSplit):
        return train
    return train.sample() if PartialState().is_main_process else Dataset.from_dict({})
