"""Upload a folder of images to the Hub as a data set: Parquet shards, and a card with the leakage audit.

    python -m brain_mri.hub push_data FOLDER --dataset USER/NAME --license cc0-1.0 --source https://... --dry_run
    python -m brain_mri.hub push_data FOLDER --dataset USER/NAME --license cc0-1.0 --source https://... --private

The image files are uploaded byte for byte, with their names and the patient ids of `patients.csv`. Check first that
none of these identifies a patient, and that the licence lets you pass the images on.
The Hub gets one commit, or none if nothing changed. After a failure, give the same command again. Read the images back
with `train.py --data_dir USER/NAME`, and with `--data_revision` those of one commit.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi

from brain_mri.errors import run_command
from brain_mri.hub.repository import NOTHING_SENT, Repository, check_id, listing, required_token, upload
from brain_mri.hub.shards import add_options, shard_options, write_shards
from brain_mri.leakage.audit import headline


def push_data(
    folder: Path, dataset: str, private: bool | None = None, dry_run: bool = False, **options: Any
) -> list[str]:
    """Write a folder's images as shards to a temporary folder, and upload them to the Hub.

    Args:
        folder: as train.py takes it.
        dataset: id of the data set, USER/NAME.
        private: whether a new data set is private; None leaves that to the account's default.
        dry_run: only list what would be sent, without network or token.
        options: further arguments of `shards.write_shards`; `license_` and `source` are required.

    Returns:
        What the audit found, and the address with what was uploaded; for a dry run every file with its size in bytes.

    Raises:
        ConfigError: no id, no token, an option out of range, or whatever the Hub refuses, in one sentence.
        DataError: the folder can't be used.
    """
    check_id("dataset", dataset)
    token = None if dry_run else required_token()
    with tempfile.TemporaryDirectory(prefix="brain-mri-data-") as scratch:
        target = Path(scratch) / "dataset"
        report = write_shards(folder, target, **options)
        repository = Repository("dataset", dataset, target, {})
        if token is None:
            return [headline(report), *listing(repository), NOTHING_SENT]
        done = upload(HfApi(token=token, library_name="brain_mri"), repository, private)
    return [headline(report), f"{done.url}: {done.what}"]


def main(argv: Sequence[str] | None = None) -> None:
    """Push what the command line names."""
    parser = argparse.ArgumentParser(
        prog="brain-mri push_data",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="a folder of images as train.py takes it")
    parser.add_argument("--dataset", required=True, metavar="USER/NAME", help="the data set's id on the Hub")
    parser.add_argument("--private", action="store_true", help="create it private (default: as the account has it)")
    parser.add_argument("--dry_run", action="store_true", help="only list the files and their sizes, in bytes")
    add_options(parser)
    options = parser.parse_args(argv)
    shards = shard_options(options)
    for line in push_data(options.folder, options.dataset, options.private or None, options.dry_run, **shards):
        print(line)


if __name__ == "__main__":
    run_command(main)
