"""Training in stages: the records of the stages before a model."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from accelerate import PartialState

from brain_mri.model_folder import CALIBRATION, EVIDENCE, RUN
from brain_mri.utils.files import read_json, write_json

logger = logging.getLogger(__name__)

_FITTED = (CALIBRATION, EVIDENCE)  # these need images that were not trained on


def earlier_stages(model: str) -> list[dict[str, Any]]:
    """The training stages that led to `model`, in order; none unless it is a folder that train.py left.

    Args:
        model: `--model`, a model folder or an id.

    Returns:
        For each: `model` it began with, `image_size`, `progressive_size`, `progressive_share`, `epochs`, `steps`,
        `images` trained on, `boxed_images`, `learning_rate`, `guidance`, `guidance_extent`, `label_smoothing`,
        `seconds`, `finished`.
    """
    run = read_json(Path(model) / RUN)
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
        "seconds": run["seconds"],
        "finished": run["finished"],
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
                record["all_clear"] = clear | {"earlier_stage": True}
            write_json(record | {"earlier_stage": True}, folder / name)
    logger.info("the validation images were trained on: calibration and thresholds stay those of %s", model)
