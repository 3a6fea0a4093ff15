"""Fit the guard of a trained model again: after an upgrade, or with a newer review.csv.

    brain-mri refit_guard MODEL_FOLDER --data_dir <the folder that it was trained on>

The weights, the ONNX files and the thresholds stay as they are. Evaluate the model again afterwards.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from brain_mri.arguments import DataArguments, EvaluationArguments
from brain_mri.data.image_folder import find_images
from brain_mri.errors import ConfigError, DataError, run_command
from brain_mri.model_folder import GUARD, read_record, served_file
from brain_mri.utils.imports import importing


def refit_guard(folder: Path, data_args: DataArguments) -> int:
    """Fit `guard.json` again on the images that a model learned from.

    Args:
        folder: the model folder.
        data_args: the images; how they are split is taken from the model's `run.json`.

    Returns:
        The number of training images for the fit.

    Raises:
        ConfigError: the folder holds no finished model with an ONNX file.
        DataError: these are not the images that it was trained on.
    """
    from brain_mri.data.prepare import fingerprint, prepare_images, split_images
    from brain_mri.evaluation.predict import load_model
    from brain_mri.evaluation.test_images import run_record, trained_split_options
    from brain_mri.training.finalize import fit_guard

    record = run_record(str(folder))
    if not record or served_file(folder) is None:
        raise ConfigError(f"{folder} is no finished model with an ONNX file: train it with --export true.")
    _, preprocessing = load_model(EvaluationArguments(str(folder)))
    data_args = replace(trained_split_options(data_args, record), train_on_validation=False)
    images = prepare_images(data_args, preprocessing)
    if fingerprint(images) != record["data_fingerprint"]:
        raise DataError(f"{data_args.data_dir} holds other images than {folder} was trained on: give that folder.")
    splits = split_images(images, data_args)
    fit_guard(splits["train"], splits["validation"], preprocessing, folder)
    return len(splits["train"])


def main(argv: Sequence[str] | None = None) -> None:
    """Fit the guard of the model that the command line names."""
    parser = argparse.ArgumentParser(
        prog="brain-mri refit_guard", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="a model folder that train.py left")
    parser.add_argument("--data_dir", required=True, metavar="FOLDER", help="the images that it was trained on")
    options = parser.parse_args(argv)
    data_args = DataArguments(data_dir=options.data_dir)
    find_images(data_args)
    with importing():
        count = refit_guard(options.model, data_args)
    threshold = read_record(options.model / GUARD)["threshold"]
    print(f"guard fitted on {count:,} training images, threshold {threshold:.4f}; evaluate the model again.")


if __name__ == "__main__":
    run_command(main)
