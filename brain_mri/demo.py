"""The last step of `make demo`: one picture through plain `pipeline`, as any developer would call the model."""

from __future__ import annotations

import argparse

from transformers import pipeline
from transformers.utils import logging as transformers_logging

from brain_mri.data.image_folder import scan_folder
from brain_mri.errors import DataError, run_command


def main() -> None:
    """Classify the first picture of a folder and print the answer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a model folder or Hub id")
    parser.add_argument("folder", help="a folder of pictures in class folders")
    args = parser.parse_args()
    images = scan_folder(args.folder).images
    if not images:
        raise DataError(f"{args.folder}: no picture in it.")
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    answers = pipeline("image-classification", model=args.model)(str(images[0].path))
    print(f"\npipeline('image-classification', model={args.model!r}) says of {images[0].path.name}:")
    for answer in answers:
        print(f"  {answer['label']:<12}{answer['score']:.3f}")
    print("Research and teaching only, never diagnosis.")


if __name__ == "__main__":
    run_command(main)
