"""Choose the probability from which a model may answer with the healthy class, on sources it was not trained on.

    python -m brain_mri.evaluation.all_clear MODEL_FOLDER --data_dir FOLDER [FOLDER ...] [--part choose] [--rate 0.01]

At home a model is rarely wrong, so a threshold chosen there means little for other scanners. Each FOLDER is another
source with slices that show a tumour; in each, at most the share `--rate` of these may be answered with the healthy
class. The threshold goes into the model's `calibration.json`. Evaluate again afterwards, on other patients.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from brain_mri.data.image_folder import scan_folder
from brain_mri.data.layout import FolderLayout
from brain_mri.errors import ConfigError, DataError, run_command
from brain_mri.inference.classifier import BrainMRIClassifier
from brain_mri.inference.predictions import Prediction
from brain_mri.labels import is_healthy, is_tumor
from brain_mri.metrics.calibration import all_clear_threshold
from brain_mri.model_folder import CALIBRATION, read_record
from brain_mri.utils.files import write_json

RATE = 0.01


def choose_all_clear(model_dir: Path, folders: Sequence[Path], part: str | None = None, rate: float = RATE) -> Any:
    """Choose the threshold, and write it into the model's `calibration.json` as `all_clear`.

    Args:
        model_dir: the model folder.
        folders: folders of images, each another source.
        part: only images whose row of `patients.csv` has this value in its column `part`; None takes all.
        rate: the largest share of a source's tumour slices that may be answered with the healthy class, in [0, 1).

    Returns:
        What was written: `threshold` (above 1 if the healthy class may never be named), `rate`, `part`, and of each
        source `name`, `tumors` and `false_all_clears`, before and with the threshold.

    Raises:
        ConfigError: the model lacks a guard, a calibration or a healthy class, or `rate` is out of range.
        DataError: a folder holds no slice with a tumour.
    """
    if not 0 <= rate < 1:
        raise ConfigError(f"--rate {rate}: give a share from 0 to below 1, such as 0.01.")
    record = read_record(model_dir / CALIBRATION)
    classifier = BrainMRIClassifier.from_pretrained(model_dir)
    if classifier.rule.missing:
        raise ConfigError(f"{model_dir} refuses every picture: {classifier.problem or 'it has no calibration'}")
    if not any(map(is_healthy, classifier.label_names)):
        listed = ", ".join(classifier.label_names)
        raise ConfigError(f"{model_dir} has no class known to mean that there is no tumour, only {listed}.")
    threshold, sources = 0.0, []
    for folder in folders:
        images = _tumours(scan_folder(folder), part)
        cleared = sorted(p for p in map(_healthy_probability, classifier.predict([*images])) if p >= _least(record))
        threshold = max(threshold, all_clear_threshold(cleared, len(images), rate))
        sources.append({"name": folder.name, "tumors": len(images), "cleared": cleared})
    chosen = {"threshold": threshold, "rate": rate, "part": part, "sources": [_source(s, threshold) for s in sources]}
    write_json(record | {"all_clear": chosen}, model_dir / CALIBRATION)
    return chosen


def _tumours(layout: FolderLayout, part: str | None) -> list[Path]:
    """The images that show a tumour, of a part if one is asked for."""
    images = [image for image in layout.images if is_tumor(image.label, layout.label_names)]
    if part is not None:
        part_of = {name: row["part"] for name, row in layout.side_table("patients.csv", ("part",))}
        images = [image for image in images if part_of.get(image.file_name) == part]
    if not images:
        raise DataError(f"{layout.root} holds no slice with a tumour{f' of part {part!r}' if part else ''}.")
    return [image.path for image in images]


def _healthy_probability(prediction: Prediction) -> float:
    """The probability of the healthy class, if that is the one the model would name; -1 of any other slice."""
    label, probability = max(prediction.probabilities.items(), key=lambda item: item[1])
    return probability if prediction.verdict != "refused" and is_healthy(label) else -1.0


def _least(record: dict[str, Any]) -> float:
    """What the healthy class needs without this command's threshold."""
    referral = record["referral"]
    return float(max(referral["threshold"], referral.get("healthy_threshold", 0.0)))


def _source(source: dict[str, Any], threshold: float) -> dict[str, Any]:
    cleared = source["cleared"]
    kept = sum(p >= threshold for p in cleared)
    return {
        "name": source["name"],
        "tumors": source["tumors"],
        "false_all_clears": {"before": len(cleared), "after": kept},
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Choose the threshold and say what it does."""
    parser = argparse.ArgumentParser(
        prog="brain-mri all_clear", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="a model folder that train.py left")
    parser.add_argument("--data_dir", type=Path, nargs="+", required=True, metavar="FOLDER", help="images by class")
    parser.add_argument("--part", help="only rows of patients.csv with this value in their column `part`")
    parser.add_argument("--rate", type=float, default=RATE, help="share of tumours that may be missed so (%(default)s)")
    options = parser.parse_args(argv)
    chosen = choose_all_clear(options.model, options.data_dir, options.part, options.rate)
    for source in chosen["sources"]:
        counts = source["false_all_clears"]
        print(
            f"{source['name']}: {source['tumors']:,} slices with a tumour, {counts['before']:,} answered with the "
            f"healthy class before, {counts['after']:,} now"
        )
    never = ": the healthy class is never named" if chosen["threshold"] > 1 else ""
    never = ": the other thresholds are enough" if chosen["threshold"] == 0 else never
    print(f"threshold {chosen['threshold']:.4f}{never}, in {options.model / CALIBRATION}; evaluate the model again.")


if __name__ == "__main__":
    run_command(main)
