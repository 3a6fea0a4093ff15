"""`brain-mri COMMAND`: the package's commands under one name."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from brain_mri.errors import ConfigError, run_command

_COMMANDS = {  # the module whose `main` it is, words that go before the others, what it does
    "quickstart": (
        "quickstart",
        [],
        "train, evaluate and use a model on synthetic pictures: two minutes, offline",
    ),
    "train": ("training.__main__", [], "fine-tune a model on a folder of images, by a recipe"),
    "evaluate": ("evaluation.__main__", [], "evaluate a model on the test images of a folder"),
    "crossval": ("crossval.__main__", [], "train and evaluate once per fold of patients"),
    "audit": ("leakage.__main__", [], "find copies, twins and shared patients between the splits of a folder"),
    "predict": ("inference.__main__", [], "classify pictures, DICOM, NIfTI or zips with a model folder or Hub id"),
    "card": ("reporting.model_card", [], "write the model card of a folder from its records"),
    "export": ("models.portable", [], "write a model for OpenVINO or LiteRT too, beside its ONNX files"),
    "refit_guard": ("training.refit_guard", [], "fit the guard of a trained model again, after an upgrade or a review"),
    "all_clear": ("evaluation.all_clear", [], "choose how sure a model must be to say that it finds no tumour"),
    "publish": ("hub.__main__", ["publish"], "upload a model folder to the Hub, and the page that serves it"),
    "push_data": ("hub.dataset", [], "upload a folder of images to the Hub as Parquet shards, its audit in the card"),
    "shards": ("shards.__main__", [], "write a folder of images as Parquet shards, its audit in the card"),
    "phantom": ("phantom.__main__", [], "draw synthetic pictures of the four classes to try all this with"),
}


def _usage() -> str:
    lines = [f"  {name:<12}{what}" for name, (_, _, what) in _COMMANDS.items()]
    notice = "Research and teaching only, never diagnosis."
    return "\n".join(["usage: brain-mri COMMAND ...", "", *lines, "", f"brain-mri COMMAND --help says more. {notice}"])


def main(argv: Sequence[str] | None = None) -> None:
    """Hand the words after the first to the command that it names."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(_usage())
        return
    if words[0] not in _COMMANDS:
        nearest = difflib.get_close_matches(words[0], _COMMANDS, n=1)
        hint = f" Did you mean {nearest[0]}?" if nearest else ""
        raise ConfigError(f"no command {words[0]!r}: brain-mri has {', '.join(_COMMANDS)}.{hint}")
    module, leading, _ = _COMMANDS[words[0]]
    command: Callable[[Sequence[str]], None] = import_module(f"brain_mri.{module}").main
    command([*leading, *words[1:]])


def entry_point() -> None:
    """What `brain-mri` runs."""
    run_command(main)


if __name__ == "__main__":
    entry_point()
