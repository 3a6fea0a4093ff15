"""Hub datasets and folders of Parquet shards: their splits, files and columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Dataset, DatasetDict, Image, load_dataset, load_dataset_builder
from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from brain_mri.arguments import DataArguments
from brain_mri.data.label_table import IMAGE_COLUMNS, LABEL_COLUMNS, choose
from brain_mri.data.layout import split_of
from brain_mri.errors import DataError
from brain_mri.labels import align_labels

_BYTES, _TEXTS = ("binary", "large_binary"), ("string", "large_string")


def load_splits(args: DataArguments) -> DatasetDict:
    """All splits, which `datasets` keeps on disk; with `args.streaming` all but train.

    Raises:
        DataError: there is no such dataset, or with `args.streaming` no validation split.
    """
    if args.streaming:
        held_out = {name: files for name, files in shard_files(args).items() if name != "train"}
        if "validation" not in held_out:
            raise DataError(
                f"{args.data_dir} has no validation split, and a stream can't be split here: write the shards "
                "with `python -m brain_mri.shards FOLDER TARGET --validation_fraction 0.2`."
            )
        with _bars_of_downloads(args):
            return load_dataset("parquet", data_files=held_out)
    try:
        with _bars_of_downloads(args):
            return load_dataset(args.data_dir, revision=args.data_revision)
    except Exception as error:  # each library below raises its own; all mean that it can't be loaded
        raise _not_loadable(args, error) from error


@contextmanager
def _bars_of_downloads(args: DataArguments) -> Iterator[None]:
    """No bar says "Downloading data" of a folder on this disk."""
    hide = Path(str(args.data_dir)).is_dir() and not are_progress_bars_disabled()
    if hide:
        disable_progress_bars()
    try:
        yield
    finally:
        if hide:
            enable_progress_bars()


def shard_files(args: DataArguments) -> dict[str, list[str]]:
    """The Parquet files of each split of a folder or Hub dataset, as paths or `hf://` addresses; none is read.

    Raises:
        DataError: there is no such dataset, it is not in Parquet, or it has no train split.
    """
    try:
        with _bars_of_downloads(args):
            builder = load_dataset_builder(args.data_dir, revision=args.data_revision)
    except Exception as error:  # as in `load_splits`
        raise _not_loadable(args, error) from error
    files = {split_of(str(split)) or str(split): list(map(str, f)) for split, f in builder.config.data_files.items()}
    if not all(path.endswith(".parquet") for paths in files.values() for path in paths):
        raise DataError(
            f"{args.data_dir} is not in Parquet, which is what --streaming reads: write shards with "
            "`python -m brain_mri.shards`, or give --data_revision refs/convert/parquet, where the Hub has made some."
        )
    if "train" not in files:
        raise DataError(f"{args.data_dir} has no train split to stream: it has {', '.join(files)}.")
    return files


def _not_loadable(args: DataArguments, error: Exception) -> DataError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    revision = f" at revision {args.data_revision!r}" if args.data_revision else ""
    return DataError(
        f"{args.data_dir!r}{revision} is neither a folder here nor a dataset that can be loaded from the Hub "
        f"({reason}): check the path or the id, the network, and for a private dataset `hf auth login`."
    )


@dataclass(frozen=True)
class Schema:
    """The columns of a dataset.

    Attributes:
        image: the column of the images.
        label: the column of the labels.
        label_names: the model's labels.
        ids: the model's number of each value in the column of the labels.
    """

    image: str
    label: str
    label_names: tuple[str, ...]
    ids: Mapping[Any, int]


def read_schema(features: Any, args: DataArguments, values: Callable[[str], Iterable[Any]]) -> Schema:
    """Find the columns; labels may be strings.

    Args:
        features: of the dataset.
        args: with `image_column` and `label_column`, where the kinds and the usual names of columns leave a choice.
        values: called with a column of strings, gives each value that occurs in it, in any split.

    Raises:
        DataError: a column is missing, there is a choice, or the labels are numbers without names.
    """
    image = _chosen(features, args, "image", args.image_column, ((_is_image, ()), (_holds_files, IMAGE_COLUMNS)))
    label = _chosen(features, args, "label", args.label_column, ((_is_label, ()), (_is_text, LABEL_COLUMNS)))
    name_of: dict[Any, str]
    if isinstance(features[label], ClassLabel):
        name_of = dict(enumerate(features[label].names))
    else:
        name_of = {text: text for text in _texts(features[label], label, args, values)}
    mapping = align_labels(name_of.values())
    label_names = tuple(mapping.values())
    return Schema(image, label, label_names, {v: label_names.index(mapping[name]) for v, name in name_of.items()})


def _chosen(
    features: Any,
    args: DataArguments,
    what: str,
    wanted: str | None,
    kinds: Sequence[tuple[Callable[[Any], bool], Sequence[str]]],
) -> str:
    """The column that was asked for; else the only one of the first kind that there is, or the one of a usual name."""
    listed = ", ".join(features)
    if wanted is not None:
        if wanted not in features:
            raise DataError(f"{args.data_dir}: --{what}_column {wanted}: the columns are {listed}.")
        return wanted
    for is_kind, usual in kinds:
        found = [name for name, feature in features.items() if is_kind(feature)]
        if len(found) == 1 and not usual:
            return str(found[0])
        if usual and (named := choose(args.data_dir, found, what, usual)):
            return named
        if found:
            raise DataError(f"{args.data_dir}: {' or '.join(found)} may be the {what}: say which with --{what}_column.")
    if named := choose(args.data_dir, list(features), what, kinds[-1][1]):  # of another kind, which is said later
        return named
    raise DataError(f"{args.data_dir}: none of its columns ({listed}) holds the {what}s, or say --{what}_column.")


def _is_image(feature: Any) -> bool:
    return isinstance(feature, Image)


def _holds_files(feature: Any) -> bool:
    """Whether a column of Parquet files, written without `datasets`, may hold encoded images."""
    return (isinstance(feature, dict) and "bytes" in feature) or getattr(feature, "dtype", None) in _BYTES


def _is_label(feature: Any) -> bool:
    return isinstance(feature, ClassLabel)


def _is_text(feature: Any) -> bool:
    return getattr(feature, "dtype", None) in _TEXTS


def _texts(feature: Any, label: str, args: DataArguments, values: Callable[[str], Iterable[Any]]) -> list[str]:
    """The labels in a column of strings."""
    if not _is_text(feature):
        raise DataError(
            f"{args.data_dir}: the labels in {label} are no names ({getattr(feature, 'dtype', feature)}): give a "
            f'column of strings, or name the numbers (datasets: cast_column("{label}", ClassLabel(names=[...]))).'
        )
    found = set(values(label))
    if any(value is None or not value.strip() for value in found):
        raise DataError(f"{args.data_dir}: a row has no {label}: fill it, or remove the row.")
    return sorted(found)


def side_column(rows: Dataset, name: str) -> list[Any]:
    """A column that `brain_mri.shards` writes and other datasets lack, as None."""
    return rows[name][:] if name in rows.column_names else [None] * len(rows)
