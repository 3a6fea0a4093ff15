"""Which images a model is evaluated on, and where its figures go."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel

from brain_mri.arguments import Columns, DataArguments, EvaluationArguments
from brain_mri.data.image_folder import scan_folder
from brain_mri.data.layout import WHOLE
from brain_mri.data.prepare import PreparedImages, fingerprint, split_images
from brain_mri.errors import DataError
from brain_mri.labels import meaning
from brain_mri.model_folder import EVALUATION, RESULTS, RUN
from brain_mri.utils.files import read_json

_SPLIT_OPTIONS = (
    "validation_fraction", "test_fraction", "split_seed", "twin_threshold", "max_train_samples", "max_eval_samples"
)  # fmt: skip
_SAME_DATA_OPTIONS = ("streaming", "data_revision", "image_column", "label_column")


def run_record(model_dir: str) -> dict[str, Any]:
    """The `run.json` that train.py left beside the model; {} for a model that has none."""
    return read_json(Path(model_dir) / RUN)


def trained_split_options(data_args: DataArguments, record: dict[str, Any]) -> DataArguments:
    """The data arguments with the training run's own split options, so that its held-out images are found again.

    The train split of streamed data isn't read here either.
    """
    before = record.get("data", {})
    names = _SPLIT_OPTIONS + (_SAME_DATA_OPTIONS if before.get("data_dir") == data_args.data_dir else ())
    return replace(data_args, **{name: before[name] for name in names if name in before})


def images_to_evaluate(images: PreparedImages, data_args: DataArguments, record: dict[str, Any]) -> tuple[Dataset, str]:
    """The test split; if the data has none, the images that training held out, or all images of other data.

    Returns:
        The rows, and a description of them.
    """
    given = set(images.rows["split"][:])
    if "test" in given:
        rows = images.rows
        chosen = [i for i, split in enumerate(rows["split"][:]) if split == "test"]
        return rows.select(chosen), "the test split"
    if record.get("data_fingerprint") == fingerprint(images):
        return split_images(images, data_args)["test"], "the test images that training held out"
    if record.get("data", {}).get("data_dir") == data_args.data_dir:
        raise DataError(
            f"{data_args.data_dir} has changed since the training, so the images that it held out are unknown: give "
            "the folder as it was, or one of images that were not trained on."
        )
    if given == {WHOLE}:
        return images.rows, "all images of another folder than that of the training"
    raise DataError(
        f"{data_args.data_dir} has a {' and a '.join(sorted(given))} split but no test split: "
        "add a test/ folder, or give its class folders alone, as images of another source."
    )


def only_part(rows: Dataset, data_dir: str | None, part: str | None, columns: Columns | None = None) -> Dataset:
    """The rows whose column `part` in the folder's `patients.csv` says `part`; all of them where none is asked for.

    Raises:
        DataError: the data is no folder, its table has no such column, or none of the rows is of that part.
    """
    if part is None:
        return rows
    if not data_dir or not Path(data_dir).is_dir() or not (layout := scan_folder(data_dir, columns)).images:
        raise DataError(f"--part {part}: {data_dir} is no folder of images; the parts are read from its patients.csv.")
    part_of = {name: row["part"] for name, row in layout.side_table("patients.csv", ("part",))}
    chosen = [i for i, name in enumerate(rows["file_name"][:]) if part_of.get(name) == part]
    if not chosen:
        known = ", ".join(sorted({value for value in part_of.values() if value})) or "none: there is no such table"
        raise DataError(f"--part {part}: no image to evaluate is of this part; those of patients.csv are {known}.")
    return rows.select(chosen)


def with_model_labels(rows: Dataset, label_names: tuple[str, ...], model: PreTrainedModel) -> Dataset:
    """The rows with each label as the index that the model gives it, matched by name or meaning.

    Raises:
        DataError: a class of the data is none of the model's.
    """
    exact = model.config.label2id
    alike = {meaning(name): index for name, index in exact.items()}
    if unknown := [name for name in label_names if name not in exact and meaning(name) not in alike]:
        raise DataError(
            f"{', '.join(unknown)}: no such class in the model, which has {', '.join(exact)}: rename the folders."
        )
    ids = [int(exact.get(name, alike.get(meaning(name)))) for name in label_names]
    return rows.remove_columns("label").add_column("label", [ids[label] for label in rows["label"][:]])


def data_record(
    images: PreparedImages, data_dir: str | None, part: str | None, name: str | None = None
) -> dict[str, Any]:
    """What the figures say of the data: its name, by default the folder's with the part's, and its fingerprint."""
    own = Path(str(data_dir)).name + (f"-{part}" if part else "")
    of_part = {"part": part} if part else {}
    return {"name": name or own, "fingerprint": fingerprint(images), **of_part}


def output_files(args: EvaluationArguments, external: str | None) -> tuple[Path, Path]:
    """Where the plots go, and the file of the figures, also for a model from the Hub, which has no folder here.

    `external`, the name of data that the model was not trained on, gives files of that name beside the usual ones.
    """
    local = Path(args.model_dir)
    usual = local / EVALUATION if local.is_dir() else Path("outputs") / EVALUATION / local.name
    folder = Path(args.output_dir) if args.output_dir else usual
    if external is None:
        return folder, folder / RESULTS
    name = "external_" + re.sub(r"[^\w.-]+", "-", external)
    return folder / name, folder / f"{name}.json"
