"""Dataclasses filled from one YAML file and overridden on the command line."""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

import yaml

from brain_mri.errors import ConfigError

LAST_CHECKPOINT = "last"


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows defaults, and keeps the lines of the description, which are commands."""


def parse(
    arguments_of: Sequence[type],
    argv: list[str] | None = None,
    description: str | None = None,
    positional: str = "config",
) -> list[Any]:
    """Fill the dataclasses `arguments_of` from `[config.yaml] --key value ...`.

    One YAML file is one whole run; an option on the command line wins over it. Every value goes through the same
    parser, so `5e-5`, a string to PyYAML, becomes the float that the field's type asks for.

    Args:
        arguments_of: the dataclasses; TrainingArguments may be one.
        argv: the words; default: the command line's.
        description: what --help says above the options.
        positional: what a first word without dashes is: a YAML file (`config`), or the value of this option.

    Returns:
        One instance of each dataclass.

    Raises:
        ConfigError: an unknown key (the nearest known one is suggested), a value of the wrong type, no such file.
    """
    from transformers import HfArgumentParser  # after --help of the no-torch commands has had its chance

    argv = list(sys.argv[1:] if argv is None else argv)
    parser = HfArgumentParser(
        list(arguments_of), description=description, allow_abbrev=False, formatter_class=_HelpFormatter
    )
    parser.usage = f"%(prog)s [{positional}] [--option value ...]"
    parser.prog = Path(sys.argv[0]).name
    parser.error = _raise_config_error  # argparse would print its usage, hundreds of lines here
    _allow_bare_resume(parser)
    known = {f.name for cls in arguments_of for f in fields(cls) if f.init}
    first = argv.pop(0) if argv and not argv[0].startswith("-") else None
    from_file: list[str] = []
    if first is not None:
        from_file = _yaml_options(Path(first), known) if positional == "config" else [f"--{positional}", first]
    parsed: list[Any]
    try:
        *parsed, unknown = parser.parse_args_into_dataclasses(
            args=from_file + argv, return_remaining_strings=True, look_for_args_file=False
        )
    except ValueError as error:  # of TrainingArguments, whose options contradict each other
        raise ConfigError(" ".join(str(error).split())) from error
    flags = [word for word in unknown if word.startswith("-")] or unknown
    if flags:
        raise ConfigError(_unknown(flags[0].lstrip("-").split("=")[0], known, "on the command line"))
    return parsed


def _raise_config_error(message: str) -> NoReturn:
    raise ConfigError(f"{message} (--help lists the options).")


def _allow_bare_resume(parser: Any) -> None:
    for action in parser._actions:
        if action.dest == "resume_from_checkpoint":
            action.nargs, action.const = "?", LAST_CHECKPOINT


def _yaml_options(path: Path, known: set[str]) -> list[str]:
    if not path.is_file():
        raise ConfigError(f"{path}: no such configuration file.")
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is no YAML: {error}") from error
    if not isinstance(config, dict):
        raise ConfigError(f"{path}: needs 'key: value' lines.")
    options: list[str] = []
    for key, value in config.items():
        if key not in known:
            raise ConfigError(_unknown(str(key), known, f"in {path}"))
        if value is None:
            continue
        options.append(f"--{key}")
        options += [str(v) for v in value] if isinstance(value, list) else [_as_word(value)]
    return options


def _as_word(value: Any) -> str:
    if isinstance(value, dict):
        return json.dumps(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _unknown(key: str, known: set[str], where: str) -> str:
    nearest = difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.5)
    return f"unknown option {key!r} {where}" + (f": did you mean {nearest[0]!r}?" if nearest else " (see --help).")
