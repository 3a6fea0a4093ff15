"""`brain-mri audit | predict | publish | push_data`: the package's commands under one name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from brain_mri.errors import ConfigError, run_command

_COMMANDS = {
    "audit": ("leakage.__main__", [], "find copies, twins and shared patients between the splits of a folder"),
    "predict": (
        "inference.__main__",
        [],
        "classify pictures, DICOM, NIfTI or zips with a model folder or a model of the Hub",
    ),
    "publish": (
        "hub.__main__",
        ["publish"],
        "upload a model folder to the Hub, and the page that serves it as a Space",
    ),
    "push_data": ("hub.dataset", [], "upload a folder of images to the Hub as Parquet shards, its audit in the card"),
}


def _usage() -> str:
    lines = [f"  {name:<11}{what}" for name, (_, _, what) in _COMMANDS.items()]
    return "\n".join(["usage: brain-mri COMMAND ...", "", *lines, "", "brain-mri COMMAND --help says more."])


def main(argv: Sequence[str] | None = None) -> None:
    """Hand the words after the first to the command that it names."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(_usage())
        return
    if words[0] not in _COMMANDS:
        raise ConfigError(f"no command {words[0]!r}: brain-mri has {', '.join(_COMMANDS)}.")
    module, leading, _ = _COMMANDS[words[0]]
    command: Callable[[Sequence[str]], None] = import_module(f"brain_mri.{module}").main
    command([*leading, *words[1:]])


def entry_point() -> None:
    """What `brain-mri` runs."""
    run_command(main)


if __name__ == "__main__":
    entry_point()
