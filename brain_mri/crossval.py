"""Patient-wise cross-validation: an ordinary run of train.py and evaluate_model.py per fold, resumable.

    python -m brain_mri.crossval configs/efficientnet.yaml --data_dir <folder> --output_dir outputs/patient_wise

All images of the folder are pooled, whatever its splits. Each fold tests on patients that it did not train on, and
each image is tested once. The same command goes on where it was stopped; folds may run at the same time on several
GPUs (`CUDA_VISIBLE_DEVICES=0 ... --only 1 2`, `CUDA_VISIBLE_DEVICES=1 ... --only 3 4 5`).
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import os
import shutil
import signal
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import StratifiedGroupKFold

from brain_mri import run
from brain_mri.arguments import DataArguments
from brain_mri.duplicates import near_duplicate_pairs
from brain_mri.errors import BrainMRIError, ConfigError, DataError, run_command
from brain_mri.layout import WHOLE, FolderLayout, ImageFile, scan_folder
from brain_mri.leakage import audit_folder
from brain_mri.splits import merge_groups

logger = logging.getLogger(__name__)

METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auroc", "expected_calibration_error")
SUMMARY = "patient_wise.json"
_PLAN = "plan.json"
_SCRIPTS = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Plan:
    """Which fold tests which image.

    Attributes:
        fold_of: `{file_name: fold}`, folds counted from 1.
        groups: how many sets of images stay together; for an author's folds, how many patient groups are known.
        largest_group: images in the largest of them.
        divided_groups: how many patient groups lie in more than one fold; 0 where the folds were made here.
    """

    fold_of: dict[str, int]
    groups: int
    largest_group: int
    divided_groups: int

    @property
    def sizes(self) -> dict[int, int]:
        """Test images of each fold."""
        return dict(sorted(Counter(self.fold_of.values()).items()))


def grouped_folds(layout: FolderLayout, n_folds: int, seed: int, threshold: float) -> Plan:
    """Deal patients, joined where they share near-duplicates, to folds stratified by label (StratifiedGroupKFold).

    Raises:
        ConfigError: fewer than 2 folds.
        DataError: no patients are known, or a class has too few of them to be on both sides of every fold.
    """
    if n_folds < 2:
        raise ConfigError(f"--folds {n_folds}: give 2 or more.")
    _patients(layout)
    _, table = audit_folder(layout.root, processes=1, threshold=threshold)
    pairs = near_duplicate_pairs(table.thumbnails, threshold)
    groups = merge_groups(table.patient_groups, pairs.first, pairs.second)
    labels = np.asarray(table.labels)
    for label in np.unique(labels):
        if (known := len(np.unique(groups[labels == label]))) < n_folds:
            raise DataError(f"{label} has {known} patient groups, too few for {n_folds} folds: lower --folds.")
    folds = np.zeros(len(table), np.int64)
    dealer = StratifiedGroupKFold(n_splits=n_folds, shuffle=True, random_state=seed)
    for number, (_, held) in enumerate(dealer.split(labels, labels, groups), start=1):
        folds[held] = number
    _check_classes(labels, folds)
    fold_of = dict(zip(table.file_names, folds.tolist(), strict=True))
    sizes = np.bincount(groups)
    return Plan(fold_of, len(sizes), int(sizes.max()), divided_groups=0)


def author_folds(layout: FolderLayout, column: str) -> Plan:
    """Take the folds that `column` of `patients.csv` gives, as they are, even where they divide a patient.

    Raises:
        DataError: no patients are known, an image has no fold, folds are not numbered 1, 2, ... or one lacks a class.
    """
    patients = _patients(layout)
    given = {name: (row[column] or "").strip() for name, row in layout._side_table("patients.csv", (column,))}
    names = [image.file_name for image in layout.images]
    if missing := [name for name in names if not given.get(name, "").isdecimal()]:
        raise DataError(f"patients.csv: {len(missing)} images have no number as {column} ({missing[0]} ...): fill it.")
    fold_of = {name: int(given[name]) for name in names}
    if (numbers := sorted(set(fold_of.values()))) != list(range(1, max(len(numbers), 2) + 1)):
        raise DataError(f"the folds in the column {column!r} are {numbers}: number them 1, 2, ... without a gap.")
    _check_classes(np.asarray([i.label for i in layout.images]), np.asarray(list(fold_of.values())))
    places = {(group, fold_of[name]) for name, group in patients.items()}
    divided = sum(folds > 1 for folds in Counter(group for group, _ in places).values())
    return Plan(fold_of, len(sizes := Counter(patients.values())), max(sizes.values()), divided)


def _patients(layout: FolderLayout) -> dict[str, str]:
    patients = layout.patient_groups()
    if not patients:
        raise DataError(
            f"{layout.root} has no patients.csv that names a patient: add one (file_name, patient_group); "
            "near-duplicates alone don't tell which slices are of one patient."
        )
    if unknown := len(layout.images) - len(patients):
        logger.info("%d of %d images have no known patient: only twins keep them together", unknown, len(layout.images))
    return patients


def _check_classes(labels: npt.NDArray[Any], folds: npt.NDArray[np.int64]) -> None:
    for number, label in ((n, x) for n in np.unique(folds) for x in np.unique(labels)):
        if not 0 < (folds[labels == label] == number).sum() < (labels == label).sum():
            raise DataError(f"fold {number} has none or all of the class {label}: choose fewer folds or other ones.")


def build_fold(layout: FolderLayout, plan: Plan, number: int, folder: Path) -> Path:
    """Write fold `number` as an image folder: links in `train/` and `test/`, `patients.csv`, `boxes.csv`.

    All of it appears at once, or nothing; a `folder` that is there is left as it is. Files are copied where links are
    impossible, and where the data has two links to one file, which could not be told apart afterwards.
    """
    if folder.exists():
        return folder
    unfinished = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(unfinished, ignore_errors=True)
    names = {image.file_name: _name_in_fold(image, plan.fold_of[image.file_name] == number) for image in layout.images}
    linked: set[Path] = set()
    for image in layout.images:
        target = unfinished / names[image.file_name]
        target.parent.mkdir(parents=True, exist_ok=True)
        source = image.path.resolve()
        if source in linked or not _link(source, target):
            shutil.copyfile(source, target)
        linked.add(source)
    patients = [(names[name], group) for name, group in layout.patient_groups().items()]
    _write_table(unfinished / "patients.csv", ("file_name", "patient_group"), patients)
    if boxes := [(names[name], *box) for name, box in layout.boxes().items()]:
        _write_table(unfinished / "boxes.csv", ("file_name", "center_x", "center_y", "width", "height"), boxes)
    return unfinished.rename(folder)


def _name_in_fold(image: ImageFile, tested: bool) -> str:
    """A name is unique in its split and class; pooled, the split that an image comes from keeps it so."""
    name = image.path.name if image.split == WHOLE else f"{image.split}-{image.path.name}"
    return f"{'test' if tested else 'train'}/{image.label}/{name}"


def _link(source: Path, target: Path) -> bool:
    try:
        target.symlink_to(source)
    except OSError:  # a file system or an account without symbolic links
        return False
    return True


def _write_table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def run_fold(fold: Path, config: str, options: Sequence[str]) -> None:
    """Train on `fold/data` and judge, from wherever an earlier attempt was stopped; `fold/log.txt` has all they say.

    Raises:
        BrainMRIError: one of the scripts failed.
    """
    data, model = fold / "data", fold / "model"
    if not (model / "run.json").exists():  # what train.py writes last
        where = ["--data_dir", str(data), "--output_dir", str(model), "--resume_from_checkpoint"]
        _call("train.py", [config, *options, *where], fold)
    _call("evaluate_model.py", [str(model), "--data_dir", str(data)], fold)
    shutil.rmtree(fold / "cache", ignore_errors=True)


def _call(script: str, words: Sequence[str], fold: Path) -> None:
    log = fold / "log.txt"
    command = [sys.executable, str(_script(script)), *words]
    with log.open("a", encoding="utf-8") as lines:
        # each fold has links, so pixels, of its own: kept until it is done, not in the user's cache for ever
        environment = os.environ | {"HF_DATASETS_CACHE": str((fold / "cache").resolve())}
        done = subprocess.run(command, stdout=lines, stderr=subprocess.STDOUT, env=environment, check=False)
    if done.returncode:
        said = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        last = said[-1].strip().removeprefix("error: ") if said else f"exit code {done.returncode}"
        raise BrainMRIError(f"{script} failed in {fold.name} ({last}): see {log}; the same command goes on from there.")


def _script(name: str) -> Path:
    path = _SCRIPTS / name
    if not path.is_file():
        raise ConfigError(f"{path} is not there: run this from a clone of the repository, installed with pip -e.")
    return path


def summarise(folder: Path, plan: Plan) -> dict[str, Any]:
    """Each metric's values over the finished folds, their mean and sample standard deviation; counts pooled.

    The folds share training images, so their spread is no standard error of the mean (Bengio and Grandvalet 2004).
    Counts add up over folds; probabilities of different models can't be ranked together (Forman and Scholz 2010).
    """
    finished = [number for number in plan.sizes if _results(folder, number).exists()]
    scores = [json.loads(_results(folder, number).read_text(encoding="utf-8"))["scores"] for number in finished]
    summary: dict[str, Any] = {"n_folds": len(plan.sizes), "finished": finished, "metrics": {}}
    if not scores:
        return summary
    for name in METRICS:
        values = [fold[name]["value"] for fold in scores if name in fold]
        if len(values) == len(scores):
            spread = {"sd": statistics.stdev(values)} if len(values) > 1 else {}
            summary["metrics"][name] = {"mean": statistics.fmean(values), **spread, "values": values}
    confusion = np.sum([fold["confusion_matrix"] for fold in scores], axis=0)
    pooled = float(np.trace(confusion) / confusion.sum())
    summary["pooled"] = {"accuracy": pooled, "confusion_matrix": confusion.tolist()}
    recipe = json.loads((folder / f"fold{finished[0]}" / "model" / "run.json").read_text(encoding="utf-8"))["recipe"]
    summary["guided"] = any(bool(value) for name, value in recipe.items() if name.startswith("guid"))
    return summary | {"n": sum(fold["n"] for fold in scores), "label_names": scores[0]["label_names"]}


def _results(folder: Path, number: int) -> Path:
    return folder / f"fold{number}" / "model" / "evaluation" / "results.json"


def format_table(summary: dict[str, Any], plan: Plan) -> str:
    """One row per finished fold, and the mean and standard deviation below."""
    metrics = summary["metrics"]
    rows = [["fold", "images", *(name.replace("_", " ") for name in metrics)]]
    for position, number in enumerate(summary["finished"]):
        values = [f"{figures['values'][position]:.4f}" for figures in metrics.values()]
        rows.append([str(number), f"{plan.sizes[number]:,}", *values])
    spread = [f"{m['mean']:.4f}" + (f" +- {m['sd']:.4f}" if "sd" in m else "") for m in metrics.values()]
    rows.append(["mean", f"{summary.get('n', 0):,}", *spread])
    widths = [max(map(len, column)) + 2 for column in zip(*rows, strict=True)]
    return "\n".join("".join(f"{c:<{w}}" for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def settle_plan(options: argparse.Namespace, train_options: Sequence[str], layout: FolderLayout) -> Plan:
    """The plan that `options.output_dir` was begun with, or a new one, written there.

    Raises:
        ConfigError: models of other folds, images or training options stand there already.
    """
    path = Path(options.output_dir) / _PLAN
    asked = {name: getattr(options, name) for name in ("folds_by", "folds", "fold_column")} | {
        "recipe": Path(options.config).read_text(encoding="utf-8"),
        "train_options": list(train_options),
        "data_dir": str(layout.root.resolve()),
        "images": sorted(image.file_name for image in layout.images),
    }
    begun = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if begun.get("asked") == asked:
        return Plan(**begun["plan"])
    if begun and any(path.parent.glob("fold*/model")):
        differ = ", ".join(name for name, value in asked.items() if begun["asked"].get(name) != value)
        raise ConfigError(f"{path.parent} was begun with other {differ}: give the same, or another --output_dir.")
    if options.folds_by == "author":
        plan = author_folds(layout, options.fold_column)
    else:
        plan = grouped_folds(layout, options.folds, options.split_seed, options.twin_threshold)
    for stale in path.parent.glob("fold*/data") if begun else ():
        shutil.rmtree(stale)
    run.write_json({"asked": asked, "plan": vars(plan)}, path)
    return plan


def _parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="python -m brain_mri.crossval",
        description="Patient-wise cross-validation: train.py and evaluate_model.py once per fold; resumable.",
        epilog="Any other option is handed on to train.py.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("config", help="the recipe, a YAML file of train.py")
    add("--data_dir", required=True, help="folder of images with a patients.csv; its splits are pooled")
    add("--output_dir", default="outputs/patient_wise", help=f"folder of the folds and of {SUMMARY}")
    add("--folds", type=int, default=5, help="how many folds of patients are made; an author's are taken as they are")
    add("--folds_by", choices=["grouped", "author"], default="grouped", help="make folds, or read --fold_column")
    add("--fold_column", default="official_fold", help="column of patients.csv with the author's folds, 1, 2, ...")
    add("--only", type=int, nargs="+", metavar="FOLD", help="run these folds now; default: all that are not finished")
    add("--split_seed", type=int, default=DataArguments.split_seed, help="seed of the folds and held-out splits")
    add("--twin_threshold", type=float, default=DataArguments.twin_threshold, help="correlation of near-duplicates")
    options, rest = parser.parse_known_args(argv)
    DataArguments(twin_threshold=options.twin_threshold)  # refuses what is out of range
    if not Path(options.config).is_file():
        raise ConfigError(f"{options.config}: no such configuration file.")
    shared = ["--split_seed", str(options.split_seed), "--twin_threshold", str(options.twin_threshold)]
    return options, [*shared, *rest]


def _check_start() -> None:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("start brain_mri.crossval as one process; on several GPUs give each its folds by --only.")
    _script("train.py")  # before the minute that reading the images takes
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the fold under way ends too
    run.set_up_console()


def _describe(plan: Plan) -> str:
    sizes = ", ".join(f"{size:,}" for size in plan.sizes.values())
    groups = f"{plan.groups:,} patient groups, the largest of {plan.largest_group:,} images"
    divided = f"{plan.divided_groups:,} of the groups lie in more than one fold"
    return f"{len(plan.fold_of):,} images ({groups}) in folds of {sizes}; {divided}"


def main(argv: Sequence[str] | None = None) -> None:
    """Plan the folds, run those that are not finished, and write the summary after each."""
    options, train_options = _parse(argv)
    _check_start()
    layout, folder = scan_folder(options.data_dir), Path(options.output_dir)
    layout.check()
    plan = settle_plan(options, train_options, layout)
    if unknown := sorted(set(options.only or ()) - set(plan.sizes)):
        raise ConfigError(f"--only {unknown[0]}: the folds are {', '.join(map(str, plan.sizes))}.")
    print(_describe(plan), flush=True)
    about = {"folds_by": options.folds_by, "seed": options.split_seed, "divided_groups": plan.divided_groups}
    for number in options.only or plan.sizes:
        if not _results(folder, number).exists():
            fold = folder / f"fold{number}"
            fold.mkdir(parents=True, exist_ok=True)
            print(f"fold {number} of {len(plan.sizes)}: under way, see {fold / 'log.txt'}", flush=True)
            build_fold(layout, plan, number, fold / "data")
            run_fold(fold, options.config, train_options)
        run.write_json(about | summarise(folder, plan), folder / SUMMARY)
    print(f"\n{format_table(summarise(folder, plan), plan)}\n\nwritten to {folder / SUMMARY}")


if __name__ == "__main__":
    run_command(main)
