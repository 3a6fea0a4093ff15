"""Put a model folder on the Hub, and the page that serves it into a Space; or images as a data set. No torch.

    python -m brain_mri.hub publish release --model USER/NAME --dry_run
    python -m brain_mri.hub publish release --model USER/NAME --space USER/NAME --static_space USER/PAGE
    python -m brain_mri.hub push_data FOLDER --dataset USER/NAME --license cc0-1.0 --source https://...

Each repository gets one commit, or none if nothing changed; until then the Hub shows the old state. After a failure,
give the same command again: what was uploaded is kept. The token comes from HF_TOKEN or `hf auth login` and goes only
to the Hub.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from brain_mri.errors import run_command
from brain_mri.hub.publish import (
    _PUSH_DATA_HELP,
    Destination,
    plan,
    publish,
)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="brain-mri", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("publish", help="upload a model folder, and the Space that serves it")
    command.add_argument("folder", type=Path, help="the folder that train.py left, such as release")
    command.add_argument("--model", required=True, metavar="USER/NAME", help="the model's id on the Hub")
    command.add_argument("--space", metavar="USER/NAME", help="the Space's id on the Hub (default: no Space)")
    command.add_argument(
        "--static_space",
        metavar="USER/NAME",
        help="id of a second Space, whose page runs the model in the visitor's browser (default: none; needs npm)",
    )
    command.add_argument("--private", action="store_true", help="create both private (default: as the account has it)")
    command.add_argument("--examples", type=Path, metavar="FOLDER", help="pictures you have the right to show to all")
    command.add_argument("--examples_license", metavar="TEXT", help="whose they are, and under what licence")
    command.add_argument("--dry_run", action="store_true", help="only list the files and their sizes, in bytes")
    commands.add_parser("push_data", help=_PUSH_DATA_HELP, add_help=False)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Publish what the command line names."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["push_data"]:
        from brain_mri.hub import dataset  # with `datasets` and torch, which publishing a model does without

        dataset.main(words[1:])
        return
    options = _parse(words)
    destination = Destination(
        options.model,
        options.space,
        options.private or None,
        options.examples,
        options.examples_license,
        options.static_space,
    )
    for line in (plan if options.dry_run else publish)(options.folder, destination):
        print(line)


if __name__ == "__main__":
    run_command(main)
