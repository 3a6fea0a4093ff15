"""The table of results, from the records that training and evaluation left. No torch.

    python -m brain_mri.reporting.tables release results/*                               the README's table, as Markdown
    python -m brain_mri.reporting.tables --folds release/evaluation/patient_wise.json    that of the folds of patients

A figure that a folder does not hold is a dash: it was not measured.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from brain_mri.errors import DataError, run_command
from brain_mri.metrics.interval import show
from brain_mri.model_folder import (
    AUDIT,
    EVALUATION,
    LATENCY,
    RECORDS,
    RUN,
    ModelRecords,
    Record,
    read_records,
    without_paths,
)
from brain_mri.reporting.model_card import first_model
from brain_mri.utils.files import read_json, write_json

_HEAD = (
    "model", "official test", "without near-duplicates", "patients never seen", "ECE", "heat map's peak on the tumour",
    "parameters", "ms a slice", "training",
)  # fmt: skip


def table(folders: Sequence[Path]) -> str:
    """One row for each model folder, or folder of its records.

    Args:
        folders: each holds at least `config.json`, `run.json` and `evaluation/results.json`.

    Raises:
        DataError: one of these is missing.
    """
    rows = [list(_HEAD), ["---", *["---:"] * (len(_HEAD) - 1)], *(_row(folder) for folder in folders)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(folder: Path) -> list[str]:
    records = read_records(folder)
    if records.results is None:
        raise DataError(f"{folder} holds no evaluation/results.json: run evaluate_model.py on the model first.")
    scores = records.results["scores"]
    return [
        f"`{folder.name}`: {_name(records.run)}",
        show(scores["accuracy"], ".2%"),
        show(records.results["leak_free"]["scores"]["accuracy"], ".2%") if "leak_free" in records.results else "-",
        _folds(records.patient_wise),
        f"{scores['expected_calibration_error']['value']:.4f}",
        _evidence(records),
        f"{records.run['parameters'] / 1e6:.1f} M" if "parameters" in records.run else "-",
        _latency(read_json(folder / EVALUATION / LATENCY)),
        _training(records.run),
    ]


def _name(run: Record) -> str:
    first = first_model(run)
    name = str(first["model"]).rsplit("/", 1)[-1].split(".")[0]
    return f"{name}, {'ImageNet' if first['pretrained'] else 'random'} weights, {run['model']['image_size']} px"


def _folds(folds: Record | None) -> str:
    if folds is None:
        return "-"
    accuracy = folds["metrics"]["accuracy"]
    return f"{_spread(accuracy, 2)} ({len(accuracy['values'])} of {folds['n_folds']} folds)"


def fold_table(folds: Record) -> str:
    """A row for each fold of patients, and one of all.

    Args:
        folds: `patient_wise.json`, as `brain_mri.crossval` writes it.

    Raises:
        DataError: it holds no finished fold.
    """
    if not folds.get("folds"):
        raise DataError("no finished fold is recorded there: let `python -m brain_mri.crossval` write it (anew).")
    labels = folds["label_names"]
    head = ["fold", "slices", "accuracy", *(f"{label} found" for label in labels)]
    boxed = all("pointing_game" in fold for fold in folds["folds"])
    rows = [head + ["map's peak on the tumour"] * boxed, ["---:"] * (len(head) + boxed)]
    for fold in folds["folds"]:
        found = [_share(fold["sensitivity"][label]) for label in labels]
        peak = [f"{fold['pointing_game']['value']:.1%}"] if boxed else []
        rows.append([str(fold["fold"]), f"{fold['n']:,}", show(fold["accuracy"], ".2%"), *found, *peak])
    matrix = folds["pooled"]["confusion_matrix"]
    found = [_share(row[i] / sum(row) if sum(row) else None) for i, row in enumerate(matrix)]
    rows.append(["all", f"{folds['n']:,}", _spread(folds["metrics"]["accuracy"], 2), *found])
    rows[-1] += [_spread(folds["metrics"]["pointing_game"], 1)] if boxed else []
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _spread(metric: Record, digits: int) -> str:
    """Mean over the folds, and their standard deviation in points."""
    return f"{metric['mean']:.{digits}%}" + (f" ± {100 * metric['sd']:.{digits}f}" if "sd" in metric else "")


def _evidence(records: ModelRecords) -> str:
    if records.evidence is None:
        return "-"
    earlier = ", stage before" if records.evidence.get("earlier_stage") else ""
    return f"{records.evidence['pointing_game']['value']:.1%} (n = {records.evidence['n']}{earlier})"


def _latency(record: Record) -> str:
    """Of what is served, the int8 file where there is one; measured by `benchmarks/inference.py`."""
    answers = record.get("answers", {})
    served = answers.get("ONNX int8") or answers.get("ONNX float32")
    return f"{served['p50_ms']:.0f}" if served else "-"


def _training(run: Record) -> str:
    """Epochs and time, of all stages."""
    stages: list[Record] = run.get("stages", [])
    epochs = sum(stage["epochs"] for stage in stages) + run["training"]["num_train_epochs"]
    seconds = sum(stage["seconds"] for stage in stages) + run["seconds"]
    time = f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
    return f"{epochs:g} epochs, {time}"


def keep(model: Path, target: Path) -> None:
    """Copy the records of a model folder, without weights, pictures and paths of this machine: small enough for git.

    Raises:
        DataError: the model was not trained here, or not evaluated; or `target` holds more than such records, which
            would be lost.
    """
    _row(model)
    if others := [path.name for path in target.rglob("*") if path.is_file() and path.suffix != ".json"]:
        raise DataError(
            f"--keep {target}: it holds {others[0]}, which is no record: name a folder for this model alone."
        )
    if any((folder / RUN).is_file() for folder in target.glob("*/")):
        raise DataError(f"--keep {target}: it holds the records of other models: name a folder in it.")
    shutil.rmtree(target, ignore_errors=True)
    wanted = [model / name for name in RECORDS if name != AUDIT] + sorted((model / EVALUATION).glob("*.json"))
    for path in wanted:
        if path.is_file():
            record: dict[str, Any] = without_paths(read_json(path))
            record.pop("log_history", None)
            write_json(record, target / path.relative_to(model))


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table, or keep the records of one model."""
    parser = argparse.ArgumentParser(
        prog="python -m brain_mri.reporting.tables",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folders", nargs="*", type=Path, help="model folders, or folders of their records")
    parser.add_argument("--folds", type=Path, metavar="FILE", help="print the table of this patient_wise.json instead")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="copy the records of the one model named here")
    options = parser.parse_args(argv)
    if options.folds:
        print(fold_table(read_json(options.folds)))
        return
    if not options.folders:
        raise DataError("which models? Give their folders, or --folds and a patient_wise.json.")
    if options.keep:
        keep(options.folders[0], options.keep)
    print(table([options.keep] if options.keep else options.folders))


if __name__ == "__main__":
    run_command(main)
