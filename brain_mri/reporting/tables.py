"""Tables of results as Markdown, from the records that training and evaluation left. No torch.

    python -m brain_mri.reporting.tables outputs/*                   one row for each model
    python -m brain_mri.reporting.tables --row release               the README's row
    python -m brain_mri.reporting.tables --page release results/*    docs/results.md: the first model ships
    python -m brain_mri.reporting.tables --keep results/vit MODEL    copy a model's records, small enough for git

A dash stands for a figure that was not measured. The sentences of the page are in `templates/results.md`.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import UndefinedError

from brain_mri.errors import DataError, run_command
from brain_mri.labels import is_healthy
from brain_mri.metrics.interval import show
from brain_mri.model_folder import (
    AUDIT,
    ENSEMBLE,
    EVALUATION,
    LATENCY,
    PATIENT_WISE,
    RECORDS,
    RUN,
    Record,
    read_records,
    without_paths,
)
from brain_mri.reporting import markdown
from brain_mri.reporting.model_card import first_file, first_model, missed_tumors, teachers
from brain_mri.utils.files import read_json, write_json

FIGURES = (
    "model", "patients never seen", "tumours elsewhere called healthy", "without near-duplicates", "official test",
    "ECE", "heat map's peak on the tumour", "contour's overlap",
)  # fmt: skip
RUNS = ("model", "network", "first weights", "teacher", "pixels", "parameters", "ms a slice", "training")
FIRST_PAGE = (FIGURES[1], "weakest class there", FIGURES[6], "ms a slice", FIGURES[3], FIGURES[4])


def table(folders: Sequence[Path], columns: Sequence[str] = FIGURES) -> str:
    """One row for each model folder, or folder of its records.

    Args:
        folders: each holds at least `config.json`, `run.json` and `evaluation/results.json`.
        columns: names in `FIGURES`, `RUNS` (of how it was trained) or `FIRST_PAGE` (of the README's row).

    Raises:
        DataError: one of these files is missing.
    """
    cells = [_cells(folder) for folder in folders]
    sides = ["---" if column == "model" else "---:" for column in columns]
    return markdown.table([columns, sides, *([row[column] for column in columns] for row in cells)])


def _cells(folder: Path) -> dict[str, str]:
    """The cells of a model's row, by column."""
    records = read_records(folder)
    if records.results is None:
        raise DataError(f"{folder} holds no evaluation/results.json: run evaluate_model.py on the model first.")
    scores, run = records.results["scores"], records.run
    leak_free = records.results.get("leak_free")
    weakest, first = _weakest(records.patient_wise), first_model(run)
    return {
        "model": f"`{folder.name}`",
        "patients never seen": _folds(records.patient_wise),
        "weakest class there": f"{weakest['label']}: {weakest['found']:.1%} found" if weakest else "-",
        "tumours elsewhere called healthy": _cleared([{**record} for record in records.external.values()]),
        "without near-duplicates": show(leak_free["scores"]["accuracy"], ".2%") if leak_free else "-",
        "official test": show(scores["accuracy"], ".2%"),
        "ECE": f"{scores['expected_calibration_error']['value']:.4f}",
        "heat map's peak on the tumour": _evidence(records.evidence, "pointing_game", ".1%"),
        "contour's overlap": _evidence(records.evidence, "overlap", ".2f"),
        "network": str(first["model"]).rsplit("/", 1)[-1].split(".")[0],
        "first weights": _first_weights(run),
        "teacher": ", ".join(f"`{teacher['name']}`" for teacher in teachers(run)) or "-",
        "pixels": str(run["model"]["image_size"]),
        "parameters": f"{run['parameters'] / 1e6:.1f} M" if "parameters" in run else "-",
        "ms a slice": _latency(read_json(folder / EVALUATION / LATENCY)),
        "training": _training(run),
    }


def _cleared(elsewhere: Iterable[Record]) -> str:
    """How many slices with a tumour of other sources are answered with the healthy class."""
    found = [record["safety"]["false_all_clear"] for record in elsewhere if record.get("safety")]
    count, n = (sum(figure[key] for figure in found) for key in ("count", "n"))
    return f"{count:,} of {n:,} ({count / n:.1%})" if n else "-"


def _folds(folds: Record | None) -> str:
    if folds is None:
        return "-"
    accuracy = folds["metrics"]["accuracy"]
    return f"{_spread(accuracy, 2)} ({len(accuracy['values'])} of {folds['n_folds']} folds)"


def fold_table(folds: Record) -> str:
    """A row for each fold of patients, and one for all.

    Args:
        folds: `patient_wise.json`, as `brain_mri.crossval` writes it.

    Raises:
        DataError: it holds no finished fold.
    """
    if not folds.get("folds"):
        raise DataError("no finished fold is recorded there: run `python -m brain_mri.crossval` again.")
    labels = folds["label_names"]
    head = ["fold", "slices", "accuracy", *(f"{label} found" for label in labels)]
    located = [one for one in _LOCATED if all(one[0] in fold for fold in folds["folds"])]
    rows = [head + [title for _, title, *_ in located], ["---:"] * (len(head) + len(located))]
    for fold in folds["folds"]:
        found = [_share(fold["sensitivity"][label]) for label in labels]
        places = [f"{fold[name]['value']:{spec}}" for name, _, spec, _ in located]
        rows.append([str(fold["fold"]), f"{fold['n']:,}", show(fold["accuracy"], ".2%"), *found, *places])
    matrix = folds["pooled"]["confusion_matrix"]
    found = [_share(row[i] / sum(row) if sum(row) else None) for i, row in enumerate(matrix)]
    rows.append(["all", f"{folds['n']:,}", _spread(folds["metrics"]["accuracy"], 2), *found])
    rows[-1] += [spread(folds["metrics"][name]) for name, *_, spread in located]
    return markdown.table(rows)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _spread(metric: Record, digits: int) -> str:
    """The mean over the folds, and the standard deviation in points."""
    return f"{metric['mean']:.{digits}%}" + (f" ± {100 * metric['sd']:.{digits}f}" if "sd" in metric else "")


def _plain_spread(metric: Record) -> str:
    return f"{metric['mean']:.2f}" + (f" ± {metric['sd']:.2f}" if "sd" in metric else "")


_LOCATED = (  # figures of the evidence in `fold_table`: title, format, and the row of all folds
    ("pointing_game", "map's peak on the tumour", ".1%", partial(_spread, digits=1)),
    ("overlap", "contour's overlap with the box", ".2f", _plain_spread),
    ("area_ratio", "contour's area in boxes", ".2f", _plain_spread),
)


def _evidence(record: Record | None, name: str, spec: str) -> str:
    if record is None:
        return "-"
    return f"{record[name]['value']:{spec}}" + (" (a stage earlier)" if record.get("earlier_stage") else "")


def _latency(record: Record) -> str:
    """Milliseconds of the file that is served, int8 if there is one; measured by `benchmarks/inference.py`."""
    answers = record.get("answers", {})
    served = answers.get("ONNX int8") or answers.get("ONNX float32")
    return f"{served['p50_ms']:.0f}" if served else "-"


def _first_weights(run: Record) -> str:
    """What the first training stage began with; `pretrained` weights are ImageNet's in every recipe here."""
    begun = "ImageNet" if first_model(run)["pretrained"] else "random"
    file = first_file(run)
    return f"{begun}, some from `{file}`" if file else begun


def _training(run: Record) -> str:
    """Epochs and time, of all stages; then those of the teachers."""
    own = {"epochs": run["training"]["num_train_epochs"], "seconds": run["seconds"]}
    spent = _spent([*run.get("stages", []), own])
    taught = [stage for teacher in teachers(run) for stage in teacher["stages"]]
    return f"{spent}; teacher {_spent(taught)}" if taught else spent


def _spent(stages: Sequence[Record]) -> str:
    epochs, seconds = (sum(stage[name] for stage in stages) for name in ("epochs", "seconds"))
    time = f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
    return f"{epochs:g} epochs, {time}"


def page(shipped: Path, others: Sequence[Path]) -> str:
    """`docs/results.md`: all records of the model that ships, and tables with the other models.

    Args:
        shipped: its model folder.
        others: folders of the records of other models, and of experiments.

    Raises:
        DataError: a record is missing (see `table`), or lacks a value that the page needs.
    """
    folders = [shipped, *others]
    figures, runs = table(folders), table(folders, RUNS)  # these check the records that the page needs
    records, evaluation = read_records(shipped), shipped / EVALUATION
    results: Any = records.results or {}
    folds = records.patient_wise
    try:
        return markdown.render(
            "results.md",
            records,
            external=[_elsewhere(name, {**record}) for name, record in records.external.items()],
            figures=figures,
            runs=runs,
            row=table([shipped], FIRST_PAGE),
            missed=missed_tumors(results["scores"]),
            folds=fold_table(folds) if folds else None,
            weakest=_weakest(folds),
            accuracies=folds["metrics"]["accuracy"]["values"] if folds else [],
            latency=read_json(evaluation / LATENCY),
            ensemble=read_json(evaluation / ENSEMBLE),
            trials=_trials(folders, folds) if folds else [],
        )
    except (KeyError, UndefinedError) as error:
        raise DataError(f"a record of {shipped} lacks a value for the page ({error}): evaluate again.") from error


def _weakest(folds: Record | None) -> Record | None:
    """The class with the lowest sensitivity over the slices of all folds: `label`, and the share `found`."""
    if folds is None:
        return None
    matrix = folds["pooled"]["confusion_matrix"]
    shares = {label: row[i] / sum(row) for i, (label, row) in enumerate(zip(folds["label_names"], matrix, strict=True))}
    label = min(shares, key=shares.__getitem__)
    return {"label": label, "found": shares[label]}


def _elsewhere(name: str, record: Record) -> Record:
    scores = record["scores"]
    missed = missed_tumors(scores)
    share = (
        f"{missed['missed']:,} of {missed['tumors']:,} ({missed['missed'] / missed['tumors']:.1%})" if missed else "-"
    )
    told = [entry.get("auroc") for label, entry in scores["per_class"].items() if is_healthy(label)]
    aurocs = {"by_probability": told[0] if told else None, "by_sides": record.get("symmetry", {}).get("tumor_auroc")}
    return {"name": name, "n": scores["n"], "accuracy": scores["accuracy"], "missed": share, **aurocs}


def _trials(folders: Sequence[Path], unchanged: Record) -> list[Record]:
    """Experiments (`evaluation/patient_wise_<variant>.json`) beside the same folds of the unchanged model."""
    label = (_weakest(unchanged) or {})["label"]
    trials = []
    prefix = f"{PATIENT_WISE.removesuffix('.json')}_"
    for path in sorted(file for folder in folders for file in folder.glob(f"{EVALUATION}/{prefix}*.json")):
        tried = read_json(path)["folds"]
        numbers = [fold["fold"] for fold in tried]
        same = [fold for fold in unchanged["folds"] if fold["fold"] in numbers]
        cells = [cell for pair in zip(_means(tried, label), _means(same, label), strict=True) for cell in pair]
        trials.append({"variant": path.stem.removeprefix(prefix), "folds": numbers, "cells": cells})
    return trials


def _means(folds: Sequence[Record], label: str) -> list[str]:
    """Means over the folds: accuracy, sensitivity of the label, and how often the map's peak is in the box."""
    columns = (
        [fold["accuracy"]["value"] for fold in folds],
        [fold["sensitivity"][label] for fold in folds],
        [fold["pointing_game"]["value"] for fold in folds if "pointing_game" in fold],
    )
    return [f"{sum(column) / len(column):.1%}" if column else "-" for column in columns]


def keep(model: Path, target: Path) -> None:
    """Copy the records of a model folder, without weights, pictures and paths of this machine: small enough for git.

    Raises:
        DataError: the model was not trained here, or not evaluated; or `target` holds other files, which would be lost.
    """
    _cells(model)
    if others := [path.name for path in target.rglob("*") if path.is_file() and path.suffix != ".json"]:
        raise DataError(f"--keep {target} holds {others[0]}, which is no record: name a folder for this model alone.")
    if any((folder / RUN).is_file() for folder in target.glob("*/")):
        raise DataError(f"--keep {target} holds the records of other models: name a folder in it.")
    shutil.rmtree(target, ignore_errors=True)
    wanted = [model / name for name in RECORDS if name != AUDIT] + sorted((model / EVALUATION).glob("*.json"))
    for path in wanted:
        if path.is_file():
            write_json(_without_logs(without_paths(read_json(path))), target / path.relative_to(model))


def _without_logs(value: Any) -> Any:
    """A record without the logs of its training, of earlier stages and of teachers."""
    if isinstance(value, list):
        return [_without_logs(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {name: _without_logs(one) for name, one in value.items() if name != "log_history"}


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table, or keep the records of one model."""
    parser = argparse.ArgumentParser(
        prog="python -m brain_mri.reporting.tables",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folders", nargs="+", type=Path, help="model folders, or folders of their records")
    wanted = parser.add_mutually_exclusive_group()
    wanted.add_argument("--row", action="store_true", help="print the README's row of the first model instead")
    wanted.add_argument("--page", action="store_true", help="print docs/results.md instead; the first model ships")
    wanted.add_argument("--keep", type=Path, metavar="FOLDER", help="copy the records of the first model there")
    options = parser.parse_args(argv)
    first, *others = options.folders
    if options.keep:
        keep(first, options.keep)
    folders = [options.keep] if options.keep else options.folders
    if options.page:
        print(page(first, others), end="")
    elif options.row:
        print(table([first], FIRST_PAGE))
    else:
        print(f"{table(folders)}\n\n{table(folders, RUNS)}")


if __name__ == "__main__":
    run_command(main)
