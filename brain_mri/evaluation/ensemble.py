"""An ensemble: the mean of several models' calibrated probabilities, compared with the first of them. No torch.

    python -m brain_mri.evaluation.ensemble outputs/efficientnet outputs/resnet50 [...] [--json FILE]

Reads the `evaluation/predictions.csv` that evaluate_model.py left in each folder; no model is run again. The gain is
paired: both are scored on the same resamples of patients, so that what is hard for both cancels out.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brain_mri.errors import ConfigError, run_command
from brain_mri.evaluation.prediction_table import PredictionTable
from brain_mri.metrics.interval import Interval, show
from brain_mri.metrics.scores import mean_score, score
from brain_mri.model_folder import EVALUATION, PREDICTIONS
from brain_mri.utils.files import write_json


def mean_of(members: Sequence[PredictionTable]) -> PredictionTable:
    """The mean of several models' probabilities.

    Raises:
        ConfigError: their images or classes differ.
    """
    first = members[0]
    for other in members[1:]:
        if (other.file_names, other.label_names) != (first.file_names, first.label_names):
            raise ConfigError("the models have different images or classes: evaluate them on the same data.")
    mean = np.mean([member.probabilities for member in members], axis=0)
    return PredictionTable(first.file_names, first.groups, first.labels, mean, first.label_names)


def gain(ensemble: PredictionTable, single: PredictionTable) -> Interval:
    """Accuracy of the one minus that of the other, with the 95% interval of `scores.mean_score`."""
    return mean_score(ensemble.correct - single.correct, single.groups)


def compare(folders: Sequence[Path]) -> dict[str, Any]:
    """Score the models and their mean, and compare the mean with the first.

    Returns:
        `n` images, `models`: `{name: {"accuracy", "expected_calibration_error"}}`, the last of them the `mean`, and
        `gain` of the mean over the first, in accuracy; each figure an `Interval`.
    """
    members = [PredictionTable.load(folder / EVALUATION / PREDICTIONS) for folder in folders]
    together = mean_of(members)
    models = {}
    for name, table in zip([*(folder.name for folder in folders), "mean"], [*members, together], strict=True):
        figures = score(table.probabilities, table.labels, table.label_names, table.groups)
        models[name] = {key: figures[key] for key in ("accuracy", "expected_calibration_error")}
    return {"n": len(together.labels), "models": models, "gain": gain(together, members[0])}


def report(found: dict[str, Any]) -> str:
    """What `compare` found: a table, and whether the mean beats the first by more than its interval."""
    lines = ["| model | accuracy | ECE |", "| --- | ---: | ---: |"]
    for name, figures in found["models"].items():
        error = figures["expected_calibration_error"]["value"]
        lines.append(f"| {name} | {show(figures['accuracy'], '.2%')} | {error:.4f} |")
    points: Any = {end: 100 * value for end, value in found["gain"].items()}
    beats = "beats" if points.get("low", points["value"]) > 0 else "does not beat"
    verdict = f"The mean {beats} {next(iter(found['models']))}: {show(points, '+.2f', ' points')}"
    return "\n".join([*lines, "", f"{verdict} on {found['n']} images."])


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m brain_mri.evaluation.ensemble",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folders", nargs="+", type=Path, help="model folders; the first is the one to beat")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was found there as well")
    options = parser.parse_args(argv)
    if len(options.folders) < 2:
        raise ConfigError("one model is no ensemble: name two folders or more.")
    if len({folder.name for folder in options.folders}) < len(options.folders):
        raise ConfigError("two of the folders have the same name: give each model its own.")
    found = compare(options.folders)
    if options.json:
        write_json(found, options.json)
    print(report(found))


if __name__ == "__main__":
    run_command(main)
