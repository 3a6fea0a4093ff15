"""The folds of a cross-validation: the plan that they are made by, and the training and evaluation of each."""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError

from brain_mri.arguments import DataArguments, ModelArguments, RecipeArguments
from brain_mri.crossval.folds import Plan, author_folds, grouped_folds
from brain_mri.data.layout import FolderLayout
from brain_mri.errors import BrainMRIError, ConfigError
from brain_mri.model_folder import RUN
from brain_mri.utils.argument_parser import parse
from brain_mri.utils.files import read_json, write_json
from brain_mri.utils.options import TrainingOptions

logger = logging.getLogger(__name__)

_PLAN = "plan.json"
_HELD_OUT_BY = {  # options of the training that decide which images validation holds
    name: getattr(DataArguments, name) for name in ("split_seed", "twin_threshold", "validation_fraction")
}
_BATCH, _TRAINERS_BATCH = "per_device_train_batch_size", 8
_TRAIN, _EVALUATE = "brain_mri.training", "brain_mri.evaluation"
TRAINING = (DataArguments, ModelArguments, RecipeArguments, TrainingOptions)


def read_options(config: str, options: Sequence[str]) -> list[Any]:
    """What a recipe and further options say of a training: an instance of each of `TRAINING`.

    Raises:
        ConfigError: one of them is unknown, or its value impossible.
    """
    return parse(TRAINING, [config, *options])


def run_fold(fold: Path, config: str, options: Sequence[str], processes: int = 1) -> None:
    """Train and evaluate on `fold/data`, resuming a stopped attempt; the output goes to `fold/log.txt`.

    Args:
        fold: its folder.
        config: the recipe, a YAML file.
        options: further options of the training.
        processes: of each; the recipe's batch is divided among them.

    Raises:
        ConfigError: the batch is not a multiple of `processes`.
        BrainMRIError: the training or the evaluation failed.
    """
    data, model = fold / "data", fold / "model"
    if not (model / RUN).exists():  # what a training writes last
        where = ["--data_dir", str(data), "--output_dir", str(model), "--resume_from_checkpoint", "--export", "false"]
        _call(_TRAIN, [config, *options, *_divided_batch(config, options, processes), *where], fold, processes)
    _call(_EVALUATE, [str(model), "--data_dir", str(data)], fold, processes)
    shutil.rmtree(fold / "cache", ignore_errors=True)


def _divided_batch(config: str, options: Sequence[str], processes: int) -> list[str]:
    """The option that keeps the global batch as it is with one process."""
    if processes == 1:
        return []
    batch = read_options(config, options)[-1].given.get(_BATCH, _TRAINERS_BATCH)
    if batch % processes:
        raise ConfigError(f"--processes {processes}: a batch of {batch} can't be divided among them.")
    return [f"--{_BATCH}", str(batch // processes)]


def _call(module: str, words: Sequence[str], fold: Path, processes: int) -> None:
    log = fold / "log.txt"
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command = [sys.executable, *(launcher if processes > 1 else []), "-m", module, *words]
    with log.open("a", encoding="utf-8") as lines:
        # a fold's files are links of its own, and so would fill the user's cache with pixels of no later use
        environment = os.environ | {"HF_DATASETS_CACHE": str((fold / "cache").resolve())}
        code = _run(command, lines, environment)
    if code:
        printed = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        last = printed[-1].strip().removeprefix("error: ") if printed else f"exit code {code}"
        raise BrainMRIError(f"{module} failed in {fold.name} ({last}): see {log}; the same command goes on from there.")


def _run(command: list[str], lines: IO[str], environment: dict[str, str]) -> int:
    """Its exit code. A launcher and its processes form one group, so that all end when this command is ended."""
    with subprocess.Popen(command, stdout=lines, stderr=subprocess.STDOUT, env=environment, process_group=0) as started:
        try:
            return started.wait()
        except BaseException:
            os.killpg(started.pid, signal.SIGTERM)
            raise


def settle_plan(options: argparse.Namespace, train_options: Sequence[str], layout: FolderLayout) -> Plan:
    """The plan that `options.output_dir` was started with, or a new one, which is written there.

    Raises:
        ConfigError: the folder holds models of other folds, images or training options.
    """
    path = Path(options.output_dir) / _PLAN
    asked = {name: getattr(options, name) for name in ("folds_by", "folds", "fold_column")} | {
        "recipe": Path(options.config).read_text(encoding="utf-8"),
        "train_options": list(train_options),
        "data_dir": str(layout.root.resolve()),
        "images": sorted(image.file_name for image in layout.images),
    }
    if findings := layout.findings():  # a fold's images that are listed are not trained on
        asked["review"] = findings
    if options.stage_before:
        asked["stage_before"] = str(Path(options.stage_before).resolve())
    _, model, recipe, _ = read_options(options.config, train_options)
    if not options.stage_before:
        _check_unseen("--model", model.model, "give --stage_before, the folder of its own cross-validation, or")
    if model.weights:
        _check_unseen("--weights", str(Path(model.weights).parent))
    if recipe.teacher:
        _check_unseen("--teacher", recipe.teacher)
    begun = read_json(path)
    if begun.get("asked") == asked:
        return Plan(**begun["plan"])
    if begun and any(path.parent.glob("fold*/model")):
        names = asked | begun["asked"]
        differ = ", ".join(name for name in names if begun["asked"].get(name) != asked.get(name))
        raise ConfigError(f"{path.parent} was begun with other {differ}: give the same, or another --output_dir.")
    if options.stage_before:
        plan = _plan_before(options, asked)
    elif options.folds_by == "author":
        plan = author_folds(layout, options.fold_column)
    else:
        plan = grouped_folds(layout, options.folds, options.split_seed, options.twin_threshold)
    for stale in path.parent.glob("fold*/data") if begun else ():
        shutil.rmtree(stale)
    write_json({"asked": asked, "plan": vars(plan)}, path)
    return plan


def _plan_before(options: argparse.Namespace, asked: dict[str, Any]) -> Plan:
    """The plan of the stage before, whose models never saw what a fold tests."""
    before = read_json(Path(options.stage_before) / _PLAN)
    if not before:
        raise ConfigError(
            f"--stage_before {options.stage_before}: no folder of brain_mri.crossval ({_PLAN} is missing)."
        )
    differ = [
        name
        for name in ("data_dir", "images", "folds_by", "folds", "fold_column")
        if before["asked"][name] != asked[name]
    ]
    # else a fold's second stage would calibrate on images that its first stage was trained on
    for name, default in _HELD_OUT_BY.items():
        given = [_value(option, name, default) for option in (before["asked"]["train_options"], asked["train_options"])]
        differ += [name] if given[0] != given[1] else []
    if differ:
        raise ConfigError(f"--stage_before {options.stage_before}: its folds were made with other {', '.join(differ)}.")
    return Plan(**before["plan"])


def _value(words: Sequence[str], name: str, default: Any) -> Any:
    """The value of the option `name` on a command line."""
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    parser.add_argument(f"--{name}", dest="value", type=type(default), default=default)
    return parser.parse_known_args(words)[0].value


def _check_unseen(option: str, model: str, way_out: str = "give") -> None:
    """Raise a `ConfigError` if the folds would learn from a model that may have been trained on what they test."""
    if _was_trained_here(model):
        raise ConfigError(
            f"{option} {model} was trained by this package, perhaps on images that the folds test: {way_out} weights "
            "from elsewhere."
        )


def _was_trained_here(model: str) -> bool:
    """Whether a model folder, or a model on the Hub, has the record that train.py leaves."""
    if Path(model).exists():
        return (Path(model) / RUN).is_file()
    try:
        return bool(hf_hub_download(model, RUN))
    except (
        OSError,
        ValueError,
        EntryNotFoundError,
    ):  # no such file or model, no network, or no id at all: the training says which
        return False


def stage_before(folder: str | None, number: int) -> list[str]:
    """The option that starts fold `number` from the stage before."""
    if not folder:
        return []
    model = Path(folder) / f"fold{number}" / "model"
    if not (model / RUN).is_file():
        raise ConfigError(f"--stage_before {folder}: its fold {number} is not trained yet; finish it first.")
    return ["--model", str(model.resolve())]
