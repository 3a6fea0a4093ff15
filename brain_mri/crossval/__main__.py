r"""Patient-wise cross-validation: an ordinary training and evaluation per fold, resumable.

    brain-mri crossval efficientnet --data_dir <folder> --output_dir outputs/patient_wise

All images of the folder are pooled, whatever its splits. Each fold tests on patients that it did not train on, and
each image is tested once. A stopped command is resumed by giving it again; folds may run at the same time on several
GPUs (`CUDA_VISIBLE_DEVICES=0 ... --only 1 2`, `CUDA_VISIBLE_DEVICES=1 ... --only 3 4 5`). The recipe of a later stage
continues, in each fold, from that fold's model of the stage before:

    brain-mri crossval efficientnet_final --data_dir <folder> --output_dir outputs/second \
        --stage_before outputs/patient_wise
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from brain_mri.arguments import DataArguments
from brain_mri.crossval.folds import Plan, build_fold
from brain_mri.crossval.runner import TRAINING, read_options, run_fold, settle_plan, stage_before
from brain_mri.crossval.summary import format_table, results_file, summarise
from brain_mri.data.image_folder import scan_folder
from brain_mri.errors import ConfigError, run_command
from brain_mri.model_folder import PATIENT_WISE
from brain_mri.stopping import advise
from brain_mri.utils import locks
from brain_mri.utils.argument_parser import canonical
from brain_mri.utils.files import make_folder, write_json
from brain_mri.utils.progress import each
from brain_mri.utils.recipe_file import find_recipe


def _parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="brain-mri crossval",
        description="Patient-wise cross-validation: `brain-mri train` and `evaluate` once per fold; resumable.",
        epilog="Any other option is handed on to `brain-mri train`.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("config", metavar="recipe", help="name of a recipe or a YAML file, as `brain-mri train` takes it")
    add("--data_dir", required=True, help="folder of images with a patients.csv; its splits are pooled")
    add("--output_dir", default="outputs/patient_wise", help=f"folder of the folds and of {PATIENT_WISE}")
    add("--folds", type=int, default=5, help="how many folds of patients are made; an author's are taken as they are")
    add("--folds_by", choices=["grouped", "author"], default="grouped", help="make folds, or read --fold_column")
    add("--fold_column", default="official_fold", help="column of patients.csv with the author's folds, 1, 2, ...")
    add("--only", type=int, nargs="+", metavar="FOLD", help="run these folds now; default: all that are not finished")
    add("--stage_before", metavar="FOLDER", help="an --output_dir whose models each fold goes on from; same folds")
    add("--processes", type=int, default=1, help="of each training; the recipe's batch is divided among them")
    add("--split_seed", type=int, default=DataArguments.split_seed, help="seed of the folds and held-out splits")
    add("--twin_threshold", type=float, default=DataArguments.twin_threshold, help="correlation of near-duplicates")
    options, rest = parser.parse_known_args(canonical(sys.argv[1:] if argv is None else argv, TRAINING))
    options.config = str(find_recipe(options.config))
    shared = ["--split_seed", str(options.split_seed), "--twin_threshold", str(options.twin_threshold)]
    read_options(options.config, [*shared, *rest])  # refuses what is misspelt or out of range
    return options, [*shared, *rest]


def _check_start() -> None:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("start brain_mri.crossval as one process; --processes says how many train each fold.")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("brain_mri").setLevel(logging.INFO)


def _describe(plan: Plan) -> str:
    sizes = ", ".join(f"{size:,}" for size in plan.sizes.values())
    groups = f"{plan.groups:,} patient groups, the largest of {plan.largest_group:,} images"
    divided = f"{plan.divided_groups:,} of the groups lie in more than one fold"
    return f"{len(plan.fold_of):,} images ({groups}) in folds of {sizes}; {divided}"


def main(argv: Sequence[str] | None = None) -> None:
    """Plan the folds, run those that are not finished, and write the summary after each."""
    options, train_options = _parse(argv)
    _check_start()
    advise(lambda: "the same command goes on from there; finished folds stay.")
    layout, folder = scan_folder(options.data_dir), Path(options.output_dir)
    layout.check()
    print("".join(f"{note}\n" for note in layout.notes), end="", flush=True)
    with locks.waiting(folder):  # for another start, with other folds, that plans at the same moment
        plan = settle_plan(options, train_options, layout)
    if unknown := sorted(set(options.only or ()) - set(plan.sizes)):
        raise ConfigError(f"--only {unknown[0]}: the folds are {', '.join(map(str, plan.sizes))}.")
    print(_describe(plan), flush=True)
    about = {"folds_by": options.folds_by, "seed": options.split_seed, "divided_groups": plan.divided_groups}
    about["data"] = {"name": layout.root.resolve().name, "fingerprint": layout.fingerprint()}
    for number in each(options.only or list(plan.sizes), "Folds"):
        if not results_file(folder, number).exists():
            fold, begin = folder / f"fold{number}", stage_before(options.stage_before, number)
            make_folder(fold)
            print(f"\nfold {number} of {len(plan.sizes)}: under way, see {fold / 'log.txt'}", flush=True)
            build_fold(layout, plan, number, fold / "data")
            run_fold(fold, options.config, [*train_options, *begin], options.processes)
        write_json(about | summarise(folder, plan), folder / PATIENT_WISE)
    print(f"\n{format_table(summarise(folder, plan), plan)}\n\nwritten to {folder / PATIENT_WISE}")


if __name__ == "__main__":
    run_command(main)
