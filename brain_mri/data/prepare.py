"""Folders and Hub datasets as splits of prepared pixels, with the columns that audit and evaluation need."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import numpy.typing as npt
import torch
from datasets import Dataset, DatasetDict, Features, Image, concatenate_datasets

from brain_mri.arguments import DataArguments
from brain_mri.data.duplicates import SIDE, Pairs, near_duplicate_pairs, thumbnail
from brain_mri.data.file_features import FEATURES, features_of
from brain_mri.data.hub_dataset import load_splits, read_schema, side_column
from brain_mri.data.image_folder import find_images
from brain_mri.data.image_table import AuditTable
from brain_mri.data.layout import WHOLE, FolderLayout, ImageFile, fingerprint_of, raise_problems, split_of
from brain_mri.data.slice_file import read_slice
from brain_mri.data.splits import hold_out, merge_groups, sample, without_findings
from brain_mri.data.transforms import Preprocessing, pack, unpack
from brain_mri.errors import DataError, ImageError
from brain_mri.io.images import one_channel

logger = logging.getLogger(__name__)

_CACHE_VERSION = 2  # to be raised when `_prepare` changes its result for the same image
_NO_BOX = (float("nan"),) * 4
_BATCH = 32
_SPLITS = ("train", "validation", "test")


class MappedThumbnails:
    """The thumbnails of prepared rows as `duplicates.Thumbnails`: slices are read from disk."""

    def __init__(self, rows: Dataset) -> None:
        self._rows = rows.select_columns("thumbnail").with_format("arrow")

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, chosen: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
        column = self._rows[chosen]["thumbnail"].to_pylist()
        return np.frombuffer(b"".join(column), dtype=np.uint8).reshape(len(column), SIDE, SIDE)


@dataclass
class PreparedImages:
    """Every image of a folder or Hub dataset, decoded and resized once.

    Attributes:
        rows: columns `pixels` (bytes, see `transforms.pack`), `label` (int), `file_name`, `digest` (sha256 of the
            file), `thumbnail` (bytes), `split` (`train`, `validation`, `test` or `all`), `patient_group`,
            `finding` (of `review.csv`, None where it lists nothing), `box` (center x, center y, width, height as
            fractions of the image, NaN without one) and `shortcut` (see `shortcut.FEATURES`).
        label_names: the labels in the order of a model's outputs.
    """

    rows: Dataset
    label_names: tuple[str, ...]
    _pairs: dict[float, Pairs] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def thumbnails(self) -> MappedThumbnails:
        """All thumbnails, uint8 of shape (n, S, S), read when needed."""
        return MappedThumbnails(self.rows)

    def audit_table(self, splits: Sequence[str]) -> AuditTable:
        """What `leakage.audit` reads; `splits` names the split of each row."""
        return AuditTable(
            file_names=self.rows["file_name"][:],  # a slice is read at once, but an iteration row by row
            splits=list(splits),
            labels=[self.label_names[label] for label in self.rows["label"][:]],
            digests=self.rows["digest"][:],
            thumbnails=self.thumbnails,
            patient_groups=self.rows["patient_group"][:],
            findings=self.rows["finding"][:],
        )

    def near_duplicates(self, threshold: float) -> Pairs:
        """`duplicates.near_duplicate_pairs` of all rows, searched once for splits and audit."""
        if threshold not in self._pairs:
            self._pairs[threshold] = near_duplicate_pairs(self.thumbnails, threshold)
        return self._pairs[threshold]


def prepare_images(args: DataArguments, preprocessing: Preprocessing) -> PreparedImages:
    """Read every image of `args.data_dir`, resize it as the model's processor does, and keep that on disk.

    A second call with the same files and the same preprocessing reads the cache. With `args.streaming` it is every
    image but those of train, which `brain_mri.data.streaming` reads.

    Raises:
        DataError: no such folder, or anything wrong with it: unreadable images, empty classes and unknown folders are
            all named in one error.
    """
    layout = find_images(args)
    return _prepare_hub(args, preprocessing) if layout is None else _prepare_folder(layout, args, preprocessing)


def _prepare_folder(layout: FolderLayout, args: DataArguments, preprocessing: Preprocessing) -> PreparedImages:
    found = layout.images
    for note in layout.notes:
        logger.info(note)
    paths = {"image": [str(image.path) for image in found]}
    encoded = Dataset.from_dict(paths, Features({"image": Image(decode=False)}))
    rows = _map(encoded, args, preprocessing, _files_key(found))
    raise_problems(layout.root, layout.problems + _problems(rows, [image.file_name for image in found]))
    groups, boxes, findings = layout.patient_groups(), layout.boxes(), layout.findings()
    columns: dict[str, list[Any]] = {
        "file_name": [image.file_name for image in found],
        "split": [image.split for image in found],
        "label": [layout.label_names.index(image.label) for image in found],
        "patient_group": [groups.get(image.file_name) for image in found],
        "finding": [findings.get(image.file_name) for image in found],
        "box": [list(boxes.get(image.file_name, _NO_BOX)) for image in found],
    }
    return PreparedImages(_with_columns(rows, columns), layout.label_names)


def _prepare_hub(args: DataArguments, preprocessing: Preprocessing) -> PreparedImages:
    loaded = load_splits(args)
    schema = read_schema(
        next(iter(loaded.values())).features,
        args,
        lambda column: (value for split in loaded.values() for value in split.unique(column)),
    )
    parts: list[Dataset] = []
    beside = ("patient_group", "finding")
    columns: dict[str, list[Any]] = {name: [] for name in ("file_name", "split", "label", *beside, "box")}
    for name, split in loaded.items():
        for column in beside:
            columns[column] += side_column(split, column)
        columns["box"] += [list(box or _NO_BOX) for box in side_column(split, "box")]
        columns["label"] += [schema.ids[label] for label in split[schema.label][:]]
        columns["split"] += [WHOLE if len(loaded) == 1 and not args.streaming else split_of(name) or name] * len(split)
        encoded = split.select_columns(schema.image).cast_column(schema.image, Image(decode=False))
        rows = _map(encoded, args, preprocessing, encoded._fingerprint)
        named = zip(side_column(split, "file_name"), rows["path"][:], strict=True)
        columns["file_name"] += [given or path or f"{name}/{i}" for i, (given, path) in enumerate(named)]
        parts.append(rows)
    if len(set(columns["file_name"])) < len(columns["file_name"]):  # Parquet keeps names without their folders
        counted = enumerate(zip(columns["split"], columns["file_name"], strict=True))
        columns["file_name"] = [f"{split}/{i}/{name}" for i, (split, name) in counted]
    rows = concatenate_datasets(parts)
    unknown = sorted({split for split in columns["split"] if split not in (*_SPLITS, WHOLE)})
    problems = [f"unknown split {split!r} (known: {', '.join(_SPLITS)})" for split in unknown]
    raise_problems(str(args.data_dir), problems + _problems(rows, columns["file_name"]))
    return PreparedImages(_with_columns(rows, columns), schema.label_names)


def _files_key(images: Sequence[ImageFile]) -> str:
    """Other files, or files that were written since, have another key."""
    stats = ((image.path.absolute(), image.path.stat()) for image in images)
    lines = [f"{path} {about.st_size} {about.st_mtime_ns}" for path, about in stats]
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


def _map(dataset: Dataset, args: DataArguments, preprocessing: Preprocessing, key: str) -> Dataset:
    """Prepare every row, or take what was prepared under the same key."""
    whole_key = hashlib.sha256(f"{key}-{preprocessing.key}-{_CACHE_VERSION}".encode()).hexdigest()[:32]
    workers = args.preprocessing_workers if len(dataset) >= 500 else None  # starting processes takes longer below
    threads = torch.get_num_threads()
    folder = Path(datasets.config.HF_DATASETS_CACHE) / "brain_mri"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return dataset.map(
            _prepare,
            fn_kwargs={"preprocessing": preprocessing},
            remove_columns=dataset.column_names,
            new_fingerprint=whole_key,
            cache_file_name=str(folder / f"{whole_key}.arrow"),
            num_proc=workers,
            writer_batch_size=200,
            desc="Reading images",
        )
    finally:
        torch.set_num_threads(threads)  # without workers `_prepare` ran in this process and left it with one


def _prepare(row: dict[str, Any], preprocessing: Preprocessing) -> dict[str, Any]:
    (encoded,) = row.values()
    path = encoded["path"] or ""
    data = encoded["bytes"] if encoded["bytes"] is not None else Path(path).read_bytes()
    result = {"path": path, "digest": hashlib.sha256(data).hexdigest(), "pixels": b"", "thumbnail": b"", "problem": ""}
    result["shortcut"] = [0.0] * len(FEATURES)
    torch.set_num_threads(1)  # a forked worker must not wait for its parent's threads
    try:
        image = one_channel(read_slice(data, name=""))  # checked once for all that follows
    except ImageError as error:
        return result | {"problem": str(error).removeprefix(": ")}
    return result | {
        "pixels": pack(preprocessing.pixels(image)),
        "thumbnail": thumbnail(image).tobytes(),
        "shortcut": features_of(image, data).tolist(),
    }


def _problems(rows: Dataset, names: Sequence[str]) -> list[str]:
    return [f"{name}: {problem}" for name, problem in zip(names, rows["problem"][:], strict=True) if problem]


def _with_columns(rows: Dataset, columns: dict[str, list[Any]]) -> Dataset:
    rows = rows.remove_columns(["path", "problem"])
    for name, values in columns.items():
        rows = rows.add_column(name, values)
    return rows


def split_images(images: PreparedImages, args: DataArguments) -> DatasetDict:
    """The train, validation and test splits; those that the data does not have are held out here.

    What is held out is a stratified share of the whole patients and clusters of near-duplicates. With
    `train_on_validation` the validation images stand in train as well; with `streaming` there is no train split here.
    Images with a finding are left out of train and validation, after the division, which they do not change; the test
    split keeps them. `max_train_samples` and `max_eval_samples` are drawn from what is left, never of the test split.

    Raises:
        DataError: no train split, too few patients to hold any out, or a class of which nothing is left.
        ConfigError: fewer images are asked for than there are classes.
    """
    splits = _divide(images, args)
    found = {"test": splits["test"]}
    for split, most in (("train", args.max_train_samples), ("validation", args.max_eval_samples)):
        if split in splits:
            found[split] = sample(without_findings(splits[split], split, images.label_names), most, args.split_seed)
    return DatasetDict({split: found[split] for split in splits})


def _divide(images: PreparedImages, args: DataArguments) -> dict[str, Dataset]:
    given = np.array(images.rows["split"][:])
    indices = {split: np.flatnonzero(given == split) for split in _SPLITS}
    if args.streaming:
        return {split: images.rows.select(indices[split]) for split in ("validation", "test")}
    if not len(indices["train"]):
        indices["train"] = np.flatnonzero(given == WHOLE)
    if not len(indices["train"]):
        raise DataError(f"{args.data_dir} has no train split: add a train/ folder beside {sorted(set(given))}.")
    if not len(indices["test"]):
        indices["train"], indices["test"] = _hold_out(images, indices["train"], args.test_fraction, args)
    if not len(indices["validation"]):
        indices["train"], indices["validation"] = _hold_out(images, indices["train"], args.validation_fraction, args)
    if args.train_on_validation:
        indices["train"] = np.sort(np.concatenate([indices["train"], indices["validation"]]))
    return {split: images.rows.select(indices[split]) for split in _SPLITS}


def _hold_out(
    images: PreparedImages, pool: np.ndarray[Any, Any], fraction: float, args: DataArguments
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    rows = images.rows.select(pool)
    pairs = images.near_duplicates(args.twin_threshold).among(pool, len(images))
    groups = merge_groups(rows["patient_group"][:], pairs.first, pairs.second)
    kept, held = hold_out(rows["label"][:], groups, fraction, args.split_seed, images.label_names)
    return pool[kept], pool[held]


def boxed_images(rows: Dataset) -> int:
    """How many images of a split have a tumour box."""
    return int((~np.isnan(np.asarray(rows["box"][:])[:, 0])).sum()) if len(rows) else 0


def fingerprint(images: PreparedImages) -> str:
    """A hash of which images are there (names, contents, labels), for `run.json`; independent of their order."""
    return fingerprint_of(*(images.rows[name][:] for name in ("file_name", "digest", "label")))


def evenly_spread(rows: Dataset, most: int) -> Dataset:
    """At most `most` rows, evenly spread, including the first and the last."""
    return rows.select(np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int)))


def batch_count(images: int, size: int = _BATCH) -> int:
    """How many `batches` so many images make."""
    return -(-images // size)


def batches(rows: Dataset, preprocessing: Preprocessing, size: int = _BATCH) -> Iterator[npt.NDArray[np.float32]]:
    """Prepared rows as normalised `pixel_values`, `size` at a time."""
    for start in range(0, len(rows), size):
        packed = rows[start : start + size]["pixels"]
        pixels = np.stack([unpack(data, preprocessing.size) for data in packed])
        yield preprocessing.normalize(torch.from_numpy(pixels)).numpy()
