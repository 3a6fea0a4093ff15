"""Evaluate a trained model on the test split of a folder of images; every image is counted once.

    brain-mri evaluate outputs/efficientnet --data_dir <folder>
    torchrun --nproc_per_node 2 -m brain_mri.evaluation outputs/efficientnet --data_dir <folder>    the same figures
    brain-mri evaluate outputs/efficientnet --data_dir <images of another source>    how safe it is elsewhere

Writes <model>/evaluation/results.json, every answer (predictions.csv) and the plots beside it. In a clone,
`evaluate_model.py` is the same code.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from brain_mri.arguments import DataArguments, EvaluationArguments
from brain_mri.data.image_folder import find_images
from brain_mri.errors import ConfigError, run_command
from brain_mri.model_folder import check_named
from brain_mri.stopping import end_with_parent
from brain_mri.utils.argument_parser import parse
from brain_mri.utils.imports import importing


def main(argv: Sequence[str] | None = None) -> None:
    """Evaluate the model that the command line names; wrong options are reported before torch is imported."""
    started = time.time()
    kinds = [EvaluationArguments, DataArguments]
    args, data_args = parse(kinds, argv, description=__doc__, positional="model_dir", prog="brain-mri evaluate")
    if not args.model_dir:
        raise ConfigError("which model? Use: brain-mri evaluate <model folder or Hub id> --data_dir <folder>")
    end_with_parent()
    find_images(data_args)
    check_named(args.model_dir)
    with importing():
        from brain_mri.evaluation.evaluate import evaluate
        from brain_mri.utils.distributed import leave_launch
    if report := evaluate(args, data_args, started):
        print(report)
    leave_launch()


if __name__ == "__main__":
    run_command(main)
