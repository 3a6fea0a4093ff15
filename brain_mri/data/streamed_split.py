"""One process's part of a streamed training set: which rows, in which order, in which worker."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.data_loader import DataLoaderShard
from datasets import Dataset, IterableDataset
from datasets.distributed import split_dataset_by_node
from torch.utils.data import get_worker_info

from brain_mri.data.hub_dataset import Schema
from brain_mri.data.slice_file import read_slice
from brain_mri.data.transforms import Preprocessing, pack
from brain_mri.errors import DataError, ImageError

NO_BOX = [float("nan")] * 4
_KNOWN_IMAGES = 2000  # the sample that the guard is fitted on


@dataclass(frozen=True)
class Division:
    """How a stream is divided: every field affects which images a step is trained on.

    Attributes:
        rank: the number of this process.
        processes: how many train together.
        workers: of each process's DataLoader; 0 reads in the process itself.
        batch_size: images per process and step of the DataLoader.
        seed: of the order.
        buffer: how many images the next one is drawn from.
    """

    rank: int
    processes: int
    workers: int
    batch_size: int
    seed: int
    buffer: int


class StreamedSplit(torch.utils.data.IterableDataset[Any]):
    """The train split as one process reads it, with as many rows per epoch in every process.

    If the shards of a process hold fewer images than its share, it reads them again in another order; if they hold
    more, the epoch ends before they do. Like a prepared `Dataset` it has `split["label"]`, `split["box"]`,
    `column_names` and `select_columns`, for all images and not only those of this process.
    """

    def __init__(
        self,
        source: IterableDataset,
        sides: dict[str, list[Any]],
        preprocessing: Preprocessing,
        division: Division,
        schema: Schema,
    ) -> None:
        """Wrap `source`; see `streaming.open_stream`, which makes it.

        Args:
            source: rows with encoded images, unshuffled and undivided.
            sides: of all images: `label`, as the model's class numbers, `box`, and others that it has.
            preprocessing: the model's.
            division: how it is divided.
            schema: the columns of the images and labels.
        """
        self.sides, self.preprocessing, self.division = sides, preprocessing, division
        self._source, self.schema = source, schema
        self.column_names = ["pixels", "label", "box", "file_name"]
        # In shared memory, so that workers that outlive an epoch see the next one.
        self._epoch = torch.tensor(0).share_memory_()  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        """Rows of this process in an epoch: all images, divided by the processes and rounded up."""
        return -(-len(self.sides["label"]) // self.division.processes)

    def __getitem__(self, column: str) -> list[Any]:
        """A column of all images, without reading a picture."""
        return self.sides[column]

    def select_columns(self, columns: list[str]) -> StreamedSplit:
        """The same stream with fewer columns in its rows."""
        other = StreamedSplit(self._source, self.sides, self.preprocessing, self.division, self.schema)
        other.column_names = list(columns)
        return other

    def set_epoch(self, epoch: int) -> None:
        """Start another epoch, with another order."""
        self._epoch.fill_(epoch)

    @property
    def owns_shards(self) -> bool:
        """Whether there are enough shards for each process to read its own; if not, each reads all of them."""
        return bool(self._source.num_shards >= self.division.processes)

    def _rows(self, attempt: int) -> IterableDataset:
        """This process's rows of the epoch, in the order of the `attempt`-th pass over its shards."""
        entropy = [self.division.seed, int(self._epoch), attempt]
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])  # the same in every process
        shuffled = self._source.shuffle(seed=seed, buffer_size=self.division.buffer)
        strategy = "shards" if self.owns_shards else "examples"
        return split_dataset_by_node(shuffled, self.division.rank, self.division.processes, strategy)

    def _share(self) -> int:
        """This worker's number of rows: whole batches in turn with the other workers, `len` together."""
        worker = get_worker_info()
        if worker is None:
            return len(self)
        readers = min(worker.num_workers, int(self._rows(0).num_shards))  # further workers have no shard
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
        encoded = row[self.schema.image]
        name = row.get("file_name") or encoded["path"] or "an image without a name"
        data = encoded["bytes"] if encoded["bytes"] is not None else Path(encoded["path"]).read_bytes()
        try:
            pixels = self.preprocessing.pixels(read_slice(data, name=name))
        except ImageError as error:
            raise DataError(f"{error} It is in the streamed train split: write the shards without it.") from error
        ready = {
            "pixels": pack(pixels),
            "label": self.schema.ids[row[self.schema.label]],
            "box": row.get("box") or NO_BOX,
            "file_name": name,
        }
        return {column: ready[column] for column in self.column_names}

    def loader(self, args: Any, collator: Any, device: torch.device) -> DataLoaderShard:
        """A DataLoader by `Trainer`'s arguments, for rows that are already divided among the processes."""
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
        """The first `most` images of the shuffled stream, prepared, and more until every class has one."""
        waiting, kept = set(self.sides["label"]), list[Any]()
        for row in self._rows(0):
            label = self.schema.ids[row[self.schema.label]]
            if len(kept) < most or label in waiting:
                kept.append(self._ready(row))
            waiting.discard(label)
            if len(kept) >= most and not waiting:
                break
        return Dataset.from_list(kept)
