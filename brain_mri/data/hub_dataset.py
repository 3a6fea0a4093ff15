"""Hub datasets and folders of Parquet shards: their splits, files and columns."""

from __future__ import annotations

from typing import Any

from datasets import ClassLabel, Dataset, DatasetDict, Image, load_dataset, load_dataset_builder

from brain_mri.arguments import DataArguments
from brain_mri.data.image_folder import split_of
from brain_mri.errors import DataError
from brain_mri.labels import align_labels


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
        return load_dataset("parquet", data_files=held_out)
    try:
        return load_dataset(args.data_dir, revision=args.data_revision)
    except Exception as error:  # each library below raises its own; all mean that it can't be loaded
        raise _not_loadable(args, error) from error


def shard_files(args: DataArguments) -> dict[str, list[str]]:
    """The Parquet files of each split of a folder or Hub dataset, as paths or `hf://` addresses; none is read.

    Raises:
        DataError: there is no such dataset, it is not in Parquet, or it has no train split.
    """
    try:
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


def read_schema(features: Any, source: str | None) -> tuple[str, str, tuple[str, ...], list[int]]:
    """The image column, the label column, the model's label names, and the model's number of each of the column's.

    Raises:
        DataError: there is not exactly one column of each kind.
    """
    image_column, label_column = (_only(features, kind, source) for kind in (Image, ClassLabel))
    mapping = align_labels(features[label_column].names)
    label_names = tuple(mapping.values())
    ids = [label_names.index(mapping[name]) for name in features[label_column].names]
    return image_column, label_column, label_names, ids


def side_column(rows: Dataset, name: str) -> list[Any]:
    """A column that `brain_mri.shards` writes and other datasets lack, as None."""
    return rows[name][:] if name in rows.column_names else [None] * len(rows)


def _only(features: Any, kind: type, source: str | None) -> str:
    columns = [name for name, feature in features.items() if isinstance(feature, kind)]
    if len(columns) != 1:
        raise DataError(f"{source}: needs exactly one {kind.__name__} column, but has {columns or 'none'}.")
    return str(columns[0])
