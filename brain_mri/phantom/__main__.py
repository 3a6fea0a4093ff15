"""Synthetic brain-MRI-like pictures of the four classes: fixture of the tests, data of the offline quickstart.

    python -m brain_mri.phantom phantoms --train_per_class 60 --test_per_class 20

Every picture is drawn from a seed and bears the word SYNTHETIC; no pixel comes from a patient. Phantoms with different
labels and the same seed differ only in and around the mass. They exercise the code, not medicine: no figure measured on
them says anything about real slices.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from brain_mri.errors import run_command
from brain_mri.phantom.dataset import write_phantoms


def main(argv: Sequence[str] | None = None) -> None:
    """Write a set of phantoms from the command line."""
    parser = argparse.ArgumentParser(
        prog="brain-mri phantom",
        description="Write a synthetic brain-MRI-like image folder: train/, test/, patients.csv, boxes.csv.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("folder", help="a new or empty folder")
    parser.add_argument("--train_per_class", type=int, default=60, help="training pictures of each class")
    parser.add_argument("--test_per_class", type=int, default=20, help="test pictures of each class")
    parser.add_argument("--seed", type=int, default=0, help="another seed draws other patients")
    parser.add_argument("--size", type=int, default=192, help="side of the square pictures, pixels")
    options = parser.parse_args(argv)
    folder = write_phantoms(**vars(options))
    written = f"{options.train_per_class} training and {options.test_per_class} test pictures of each of 4 classes"
    print(f"{folder}: {written}, all SYNTHETIC: drawn from seed {options.seed}, no patient in them.")


if __name__ == "__main__":
    run_command(main)
