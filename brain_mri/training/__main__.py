"""Fine-tune a classifier of brain-MRI slices on a folder of images. Research and teaching only, never diagnosis.

    brain-mri train quickstart --data_dir <folder>                              a minute on a laptop's CPU
    accelerate launch -m brain_mri.training efficientnet --data_dir <folder>    one GPU or several
    torchrun --nproc_per_node 2 -m brain_mri.training efficientnet --data_dir <folder>    several CPU processes

The first word is a recipe's name or a YAML file; options override the recipe. The model goes to
outputs/<recipe>, or to --output_dir. After an interruption the same command with --resume_from_checkpoint
goes on and ends at the same weights. In a clone, train.py is the same code.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from brain_mri.arguments import DataArguments, ModelArguments, RecipeArguments
from brain_mri.data.image_folder import find_images
from brain_mri.errors import ConfigError, run_command
from brain_mri.model_folder import CHECKPOINTS
from brain_mri.stopping import advise, end_with_parent
from brain_mri.training.checkpoints import last_step
from brain_mri.utils.argument_parser import parse
from brain_mri.utils.imports import importing
from brain_mri.utils.options import DEFAULT_FOLDER, TrainingOptions


def main(argv: Sequence[str] | None = None) -> None:
    """Train what the command line says; wrong options are reported before torch is imported."""
    started = time.time()
    kinds = [DataArguments, ModelArguments, RecipeArguments, TrainingOptions]
    data_args, model_args, recipe, options = parse(kinds, argv, description=__doc__, prog="brain-mri train")
    folder = Path(options.given.get("output_dir") or DEFAULT_FOLDER)
    advise(lambda: _how_to_resume(folder))
    end_with_parent()
    find_images(data_args)
    _check_apart(folder, data_args.data_dir)
    with importing():
        from brain_mri.training.train import train
        from brain_mri.utils.distributed import leave_launch
    for line in train(data_args, model_args, recipe, options, started):
        print(line)
    leave_launch()


def _check_apart(folder: Path, data_dir: str | None) -> None:
    """The model's files must not be read as data, now or by the next run."""
    if data_dir and Path(data_dir).is_dir() and folder.resolve().is_relative_to(Path(data_dir).resolve()):
        raise ConfigError(
            f"--output_dir {folder} lies in --data_dir {data_dir}, where it would be read as data: name another folder."
        )


def _how_to_resume(folder: Path) -> str:
    step = last_step(folder / CHECKPOINTS)
    if step is None:
        return "no checkpoint was saved yet; the same command with --resume_from_checkpoint begins anew."
    return f"the same command with --resume_from_checkpoint goes on from step {step}, which {folder} holds."


if __name__ == "__main__":
    run_command(main)
