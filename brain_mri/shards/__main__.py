"""A folder of images as a data set for the Hub: Parquet shards with patients and boxes, a card with the audit.

    python -m brain_mri.shards FOLDER TARGET --license cc0-1.0 --source https://...

`--data_dir TARGET`, `datasets.load_dataset` and the Hub all read TARGET. It holds the image files byte for byte, in an
order that mixes the classes. `--streaming` needs a validation split; `--validation_fraction 0.2` holds one out of a
folder without, keeping patients and near-duplicates together. `python -m brain_mri.hub push_data` writes the shards and
uploads them to the Hub.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from brain_mri.errors import run_command
from brain_mri.hub.shards import (
    add_options,
    shard_options,
    write_shards,
)
from brain_mri.leakage.audit import headline


def main(argv: Sequence[str] | None = None) -> None:
    """Write the shards of a folder from the command line."""
    parser = argparse.ArgumentParser(
        prog="brain-mri shards", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", help="a folder of images as train.py takes it")
    parser.add_argument("target", type=Path, help="the folder to make")
    add_options(parser)
    options = parser.parse_args(argv)
    report = write_shards(options.folder, options.target, **shard_options(options))
    size = sum(path.stat().st_size for path in options.target.rglob("*.parquet")) / 1e6
    print(f"{headline(report)}\n{report['images']:,} images, {size:.1f} MB in {options.target}")


if __name__ == "__main__":
    run_command(main)
