"""Recipes, each a YAML file for one whole run: the package's, and reading one that anybody may have written."""

from __future__ import annotations

import difflib
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from brain_mri.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parents[1]
_FOLDERS = (_PACKAGE / "recipes", _PACKAGE.parent / "configs")  # of an installed package, of a clone
_LARGEST = 2**20  # characters
_DEEPEST = 8  # levels of lists and mappings


def recipes() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    folder = next((folder for folder in _FOLDERS if folder.is_dir()), _FOLDERS[0])
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def list_recipes() -> str:
    """A line for each recipe: its name and its own description."""
    found = recipes()
    width = max(map(len, found), default=0) + 2
    first = {name: path.read_text(encoding="utf-8").partition("\n")[0].strip("# ") for name, path in found.items()}
    return "\n".join(["recipes:", *(f"  {name:<{width}}{line}" for name, line in first.items())])


def find_recipe(word: str) -> Path:
    """The file of that path, else the package's recipe of that name.

    Raises:
        ConfigError: there is neither; the recipes are named.
    """
    path, known = Path(word), recipes()
    if path.is_file():
        return path
    if word in known:
        return known[word]
    nearest = difflib.get_close_matches(path.stem, known, n=1)
    hint = f"did you mean {nearest[0]}? " if nearest else ""
    raise ConfigError(f"{word}: no such configuration file; {hint}Recipes by name: {', '.join(known)}.")


def read_recipe(path: Path) -> dict[str, Any]:
    """The options of a recipe, words unchanged: `no` is "no", `1.10` is "1.10".

    Returns:
        A string, None, a list or a dictionary for each key; in lists and dictionaries values have types.

    Raises:
        ConfigError: it is no YAML of `key: value` lines in UTF-8, a key is given twice, or it holds what no recipe
            needs (aliases, tags, deep nesting, a megabyte), in one sentence.
    """
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_LARGEST + 1)
        if len(text) > _LARGEST:
            raise ConfigError(f"{path} is larger than a recipe can be (1 MB): is it the right file?")
        _check(text, path)
        return _options(yaml.compose(text, Loader=_Loader), path)
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not in UTF-8: save it so.") from error
    except (yaml.YAMLError, ValueError) as error:  # a number of 5,000 digits, the 99th of a month
        raise ConfigError(f"{path} is no YAML that can be read: {' '.join(str(error).split())}.") from error


class _Loader(yaml.SafeLoader):
    """Knows that `1e-6` is a number, and refuses a key that is given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        _check_keys(node)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def _options(node: yaml.Node | None, path: Path) -> dict[str, Any]:
    if node is None:
        return {}
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{path}: needs 'key: value' lines.")
    _check_keys(node)
    return {str(key.value): _value(value) for key, value in node.value}


def _value(node: yaml.Node) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return None if node.tag == "tag:yaml.org,2002:null" else node.value
    return _Loader("").construct_object(node, deep=True)


def _check_keys(node: yaml.MappingNode) -> None:
    seen: set[str] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise yaml.YAMLError(f"line {key.start_mark.line + 1} has a key that is no word")
        if key.value in seen:
            raise yaml.YAMLError(
                f"the key {key.value!r} is given twice, the second time in line {key.start_mark.line + 1}"
            )
        seen.add(key.value)


def _check(text: str, path: Path) -> None:
    """Refuse small text that would take much memory or time."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise ConfigError(f"{path}: *{event.anchor} is an alias, which no recipe needs: write the value out.")
        if tag := getattr(event, "tag", None):
            raise ConfigError(f"{path}: the tag {tag} is not understood: leave it out.")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise ConfigError(f"{path}: more than {_DEEPEST} levels of lists and mappings, which no option needs.")
