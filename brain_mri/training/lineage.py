"""Where a model comes from: the stages before it, its teacher, and weights from a file."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate import PartialState
from datasets import Dataset
from transformers.utils import cached_file

from brain_mri.arguments import DataArguments, ModelArguments
from brain_mri.data.layout import fingerprint_of
from brain_mri.model_folder import CALIBRATION, EVIDENCE, RUN, WEIGHTS
from brain_mri.utils.files import read_json, sha256, write_json

logger = logging.getLogger(__name__)

_FITTED = (CALIBRATION, EVIDENCE)  # these need images that were not trained on
_SPLIT_BY = ("split_seed", "twin_threshold", "validation_fraction", "test_fraction")
_IDENTITY = ("file_name", "digest", "label")
_SAW = {  # from the best case to the worst
    "nothing": "",
    "unknown": "may have been trained on images that this run holds out, which its records can't tell",
    "validation": "was trained on the validation images of this run",
    "held out": "was trained on images of the same folder, split in another way, some of which this run holds out",
}


def origins(
    model: ModelArguments, teacher: str | None, data: DataArguments, splits: Mapping[str, Any], fingerprint: str
) -> dict[str, Any]:
    """What `run.json` says of where a model comes from.

    Args:
        model: the network that is trained.
        teacher: `--teacher`, which has been loaded.
        data: how the images are split.
        splits: the images, without grafts.
        fingerprint: of all images.

    Returns:
        `split_fingerprints`, of each split that is not streamed; `stages`, see `earlier_stages`; `weights`, None
        without `--weights`: `file` and its `sha256`; `teacher`, None without one: `model`, the `sha256` of its
        weights, its own training as `stages`, and what it `saw` of the images that this run holds out: `nothing`,
        `validation`, `held out` (some of validation and test), `unknown`.
    """
    file = Path(model.weights) if model.weights else None
    prints = {
        name: fingerprint_of(*(rows[column][:] for column in _IDENTITY))
        for name, rows in splits.items()
        if isinstance(rows, Dataset)
    }
    here = {"data_fingerprint": fingerprint, "split_fingerprints": prints, "split_by": _split_by(asdict(data))}
    return {
        "split_fingerprints": prints,
        "stages": earlier_stages(model.model),
        "weights": {"file": str(file), "sha256": sha256(file)} if file else None,
        "teacher": _teacher(teacher, here) if teacher else None,
    }


def _teacher(name: str, here: dict[str, Any]) -> dict[str, Any]:
    weights, run = (_file_of(name, file) for file in (WEIGHTS, RUN))
    stages = _stages(read_json(run)) if run else []
    saw = max((_saw(stage, here) for stage in _with_teachers(stages)), default="unknown", key=[*_SAW].index)
    if _SAW[saw]:
        logger.warning(
            "the teacher %s %s: what is chosen or fitted on them, checkpoints, confidence and thresholds, will look "
            "better than it is. run.json and the card say so.", name, _SAW[saw]
        )  # fmt: skip
    return {"model": name, "sha256": sha256(weights) if weights else None, "saw": saw, "stages": stages}


def _file_of(model: str, name: str) -> Path | None:
    """A file of a model folder, or of a model on the Hub; None where it has none."""
    found = cached_file(
        model, name, _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False
    )
    return Path(found) if found else None


def _with_teachers(stages: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The stages, and those of the teachers that they had."""
    for stage in stages:
        yield stage
        yield from _with_teachers((stage.get("teacher") or {}).get("stages", []))


def _saw(stage: dict[str, Any], here: dict[str, Any]) -> str:
    """What a training stage saw of the images that this run, split as `here` says, holds out; a key of `_SAW`."""
    if stage.get("data_fingerprint") != here["data_fingerprint"]:
        return "unknown"
    theirs, ours = stage.get("split_fingerprints"), here["split_fingerprints"]
    if not theirs:  # an older record, of which only the options are known
        return "validation" if stage["split_by"] == here["split_by"] else "held out"
    if "train" in ours and theirs.get("train") == ours["train"]:
        return "nothing"
    return "validation" if theirs["test"] == ours["test"] else "held out"


def _split_by(data: dict[str, Any]) -> dict[str, Any]:
    return {name: data[name] for name in _SPLIT_BY}


def earlier_stages(model: str) -> list[dict[str, Any]]:
    """The training stages that led to `model`, in order; none unless it is a folder that train.py left.

    Args:
        model: `--model`, a model folder or an id.

    Returns:
        For each: `model` it began with, `image_size`, `progressive_size`, `progressive_share`, `epochs`, `steps`,
        `images` trained on, `boxed_images`, `learning_rate`, `guidance`, `guidance_extent`, `label_smoothing`,
        `log_history`, `seconds`, `finished`, `data_fingerprint`, `split_fingerprints`, `split_by`, `teacher`,
        `weights`.
    """
    return _stages(read_json(Path(model) / RUN))


def _stages(run: dict[str, Any]) -> list[dict[str, Any]]:
    """Those before a run that `run.json` records, and itself."""
    if not run:
        return []
    stage = {
        "model": run["model"]["model"],
        "pretrained": run["model"]["pretrained"],
        "model_args": run["model"]["model_args"],
        "image_size": run["model"]["image_size"],
        "progressive_size": run["recipe"].get("progressive_size", 0),
        "progressive_share": run["recipe"].get("progressive_share", 0.0),
        "epochs": run["training"]["num_train_epochs"],
        "steps": run["global_step"],
        "images": sum(run["splits"]["train"].values()),
        "boxed_images": run.get("boxed_images", 0),
        "learning_rate": run["training"]["learning_rate"],
        "guidance": run["recipe"].get("guidance", 0.0),
        "guidance_extent": run["recipe"].get("guidance_extent", 0.0),
        "label_smoothing": run["training"]["label_smoothing_factor"],
        "log_history": run.get("log_history", []),
        "seconds": run["seconds"],
        "finished": run["finished"],
        "data_fingerprint": run["data_fingerprint"],
        "split_fingerprints": run.get("split_fingerprints"),
        "split_by": _split_by(run["data"]),
        "teacher": run.get("teacher"),
        "weights": run.get("weights"),
    }
    return [*run.get("stages", []), stage]


def carry_over(model: str, folder: Path) -> None:
    """Copy calibration, thresholds and evidence figures of the previous stage, marked as that stage's.

    For a last stage with `--train_on_validation`: neither confidence nor evidence can be measured on images that were
    trained on. The weights keep their temperature.
    """
    if not PartialState().is_main_process:
        return
    for name in _FITTED:
        if record := read_json(Path(model) / name):
            if clear := record.get("all_clear"):  # kept, as none would be worse; its rate is of other weights
                clear.pop("symmetry", None)  # without it the healthy class needs a higher probability
                clear.pop("note", None)
                record["all_clear"] = clear | {"earlier_stage": True}
            write_json(record | {"earlier_stage": True}, folder / name)
    logger.info("the validation images were trained on: calibration and thresholds stay those of %s", model)
