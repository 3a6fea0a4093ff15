"""Dataclasses filled from one YAML file and overridden on the command line. No torch."""

from __future__ import annotations

import argparse
import difflib
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, NoReturn

from brain_mri.errors import ConfigError
from brain_mri.utils.options import Option, TrainingOptions, is_training, options_of
from brain_mri.utils.recipe_file import find_recipe, list_recipes, read_recipe

LAST_CHECKPOINT = "last"
_ALSO = {  # what other tools call an option
    "lr": "learning_rate",
    "batch_size": "per_device_train_batch_size",
    "train_batch_size": "per_device_train_batch_size",
    "eval_batch_size": "per_device_eval_batch_size",
    "epochs": "num_train_epochs",
    "num_epochs": "num_train_epochs",
}
_CLEARED = object()
_MANY = 8  # choices, at most, that help lists in the place of a value
_METAVARS = {bool: "true|false", int: "N", float: "NUMBER", str: "TEXT"}
_TRUTH = dict.fromkeys(("true", "t", "yes", "y", "on", "1"), True)
_TRUTH |= dict.fromkeys(("false", "f", "no", "n", "off", "0"), False)
_LONG_WORD = re.compile(r"(\S{100})\S+")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raise a `ConfigError`; argparse would print its usage, hundreds of lines here."""
        shown = _LONG_WORD.sub(r"\1...", message.removeprefix("argument "))
        raise ConfigError(f"{shown} (--help lists the options).")


def parse(
    kinds: Sequence[type],
    argv: Sequence[str] | None = None,
    description: str | None = None,
    positional: str = "recipe",
    prog: str | None = None,
) -> list[Any]:
    """Fill the dataclasses `kinds` from `[recipe] --key value ...`.

    One YAML file is one whole run; an option on the command line wins over it, and `none` takes it back where it has no
    value by default. Every value goes through the same
    parser, so that of either kind becomes what the field's type asks for.

    Args:
        kinds: dataclasses of `brain_mri.arguments`, and transformers' `TrainingArguments`, or `TrainingOptions` for
            what becomes them later, so that nothing of torch is imported.
        argv: the words; default: the command line's.
        description: what --help says above the options.
        positional: what a first word without dashes is: a YAML file or the name of a recipe of the package
            (`recipe`), or the value of this option.
        prog: how the command is called, for --help.

    Returns:
        One instance of each.

    Raises:
        ConfigError: an unknown key (the nearest known one is suggested), a value of the wrong type, no such file.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    first = words.pop(0) if words and not words[0].startswith("-") else None
    groups = [options_of(kind) for kind in kinds]
    known = {option.name: option for group in groups for option in group}
    if positional == "recipe":
        description = f"{(description or '').strip()}\n\n{list_recipes()}"
        from_file = _recipe_words(first, known) if first else []
    else:
        from_file = [f"--{positional}={first}"] if first else []
    parser = _build(known.values(), description, f"%(prog)s [{positional}] [--option value ...]", prog)
    recipe = vars(parser.parse_args(from_file))
    told, unknown = parser.parse_known_args([_canonical(word, known) for word in words])
    flags = [word for word in unknown if word.startswith("-")] or unknown
    if flags:
        raise ConfigError(_unknown(flags[0].lstrip("-").split("=")[0], known, "on the command line"))
    given = {name: value for name, value in (recipe | vars(told)).items() if value is not _CLEARED}
    return [_filled(kind, group, given, vars(told)) for kind, group in zip(kinds, groups, strict=True)]


def canonical(words: Iterable[str], kinds: Sequence[type]) -> list[str]:
    """Words of a command line with each option of `kinds` under its own name, whatever it was called."""
    known = {option.name: option for kind in kinds for option in options_of(kind)}
    return [_canonical(word, known) for word in words]


def _filled(kind: type, options: Sequence[Option], given: Mapping[str, Any], told: Iterable[str]) -> Any:
    values = {option.name: given[option.name] for option in options if option.name in given}
    if not is_training(kind):
        return kind(**values)
    training = TrainingOptions(values, frozenset(told))
    return training if kind is TrainingOptions else training.build(kind)


def _build(options: Iterable[Option], description: str | None, usage: str, prog: str | None) -> _Parser:
    """A parser that says what was given, and nothing of what was not."""
    parser = _Parser(
        prog=prog,
        usage=usage,
        description=description,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for heading, members in groupby(options, key=lambda option: option.group):
        group = parser.add_argument_group(heading)
        for option in members:
            _add(group, option)
    return parser


def _add(group: argparse._ArgumentGroup, option: Option) -> None:
    bare = LAST_CHECKPOINT if option.name == "resume_from_checkpoint" else option.bare
    count: dict[str, Any] = {"nargs": "?", "const": bare} if bare is not None else {}
    group.add_argument(
        f"--{option.name}",
        type=_reader(option),
        choices=option.choices or None,
        metavar=_METAVARS[option.kind] if not 0 < len(option.choices) <= _MANY else None,
        help=_help(option),
        **({"nargs": "+"} if option.several else count),
    )


def _help(option: Option) -> str:
    also = ", ".join(f"--{name}" for name, target in _ALSO.items() if target == option.name)
    notes = [f"also: {also}"] if also else []
    if option.default is not None and option.default != "":
        notes.append(f"default: {_as_word(option.default)}".replace("%", "%%"))
    return f"{option.help} ({'; '.join(notes)})" if notes else option.help


def _reader(option: Option) -> Callable[[str], Any]:
    """What makes a value of a word; `none` takes back what a recipe says of an option that has no value by default."""
    read: Callable[[str], Any] = _truth if option.kind is bool else option.kind
    if option.default is not None or option.choices or option.several:
        return read

    def read_or_clear(word: str) -> Any:
        return _CLEARED if word.lower() == "none" else read(word)

    read_or_clear.__name__ = option.kind.__name__  # which argparse puts into its errors
    return read_or_clear


def _truth(word: str) -> bool:
    if word.lower() not in _TRUTH:
        raise argparse.ArgumentTypeError(f"{word!r} is neither true nor false")
    return _TRUTH[word.lower()]


def _canonical(word: str, known: Mapping[str, Option]) -> str:
    """An option as `parse` knows it: `--batch-size=8` and `--no_streaming` are understood too."""
    if not word.startswith("--"):
        return word
    name, equals, value = word[2:].partition("=")
    name = _meant(name, known)
    negated = known.get(name.removeprefix("no_"))
    if name not in known and negated is not None and negated.kind is bool and not equals:
        return f"--{negated.name}=false"
    return f"--{name}{equals}{value}"


def _meant(name: str, known: Mapping[str, Option]) -> str:
    name = name.replace("-", "_")
    return _ALSO[name] if name not in known and _ALSO.get(name) in known else name


def _recipe_words(name: str, known: Mapping[str, Option]) -> list[str]:
    """A recipe as words of a command line; what it trains goes to a folder of its name, unless it says another."""
    path = find_recipe(name)
    words = [f"--output_dir=outputs/{path.stem}"] if "output_dir" in known else []
    given: dict[str, str] = {}
    for key, value in read_recipe(path).items():
        option = _meant(key, known)
        if option not in known:
            raise ConfigError(_unknown(key, known, f"in {path}"))
        if option in given:
            raise ConfigError(f"{path}: {key} and {given[option]} are the same option: keep one.")
        given[option] = key
        if isinstance(value, list) and not known[option].several:
            raise ConfigError(f"{path}: {key} takes one value, and not a list.")
        if isinstance(value, list):
            words += [f"--{option}", *map(_as_word, value)]
        elif value is not None:
            words.append(f"--{option}={_as_word(value)}")
    return words


def _as_word(value: Any) -> str:
    if isinstance(value, dict):
        return json.dumps(value, default=str)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _unknown(key: str, known: Mapping[str, Option], where: str) -> str:
    names = sorted([*known, *(name for name, target in _ALSO.items() if target in known)])
    nearest = difflib.get_close_matches(key.replace("-", "_"), names, n=1, cutoff=0.5)
    hint = f": did you mean {_meant(nearest[0], known)!r}?" if nearest else " (see --help)."
    return f"unknown option {key!r} {where}{hint}"
