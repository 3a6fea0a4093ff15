"""The files of a Space: those of `space/`, the part of the package that they import, examples. No torch."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import SpaceCard

from brain_mri.errors import ConfigError, DataError
from brain_mri.io.images import read_image

_PACKAGE = Path(__file__).resolve().parents[1]
_SOURCE = _PACKAGE.parent / "space"
_NOT_SHOWN = ("__pycache__", ".*", "choose_examples.py")  # which needs the whole package
_EXAMPLES_HEADING = "## Examples\n"
_MOST_EXAMPLES, _LARGEST_SIDE = 12, 512  # the page holds every example within itself


def stage_space(target: Path, model: str, examples: Path | None = None, examples_license: str | None = None) -> None:
    """Write the files of a Space into a new folder.

    Args:
        target: the folder to write.
        model: id of the model that the Space shows, for its card.
        examples: a folder of pictures to offer instead of those of the clone.
        examples_license: the licence they are shown under, and whose they are; needed with `examples`.

    Raises:
        ConfigError: `space/` is missing, or `examples` comes without its licence.
        DataError: `examples` holds no picture, or too many.
        ImageError: a file of `examples` is no picture.
    """
    if not (_SOURCE / "app.py").is_file():
        raise ConfigError(f"{_SOURCE} holds no app.py: publish a Space from a clone of the repository.")
    shutil.copytree(_SOURCE, target, ignore=shutil.ignore_patterns(*_NOT_SHOWN))
    for path in package_part(target):
        copy = target / _PACKAGE.name / path.relative_to(_PACKAGE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    if examples is not None:
        _replace_examples(target, examples, examples_license)
    card = SpaceCard((target / "README.md").read_text(encoding="utf-8"))
    card.data["models"] = [model]
    (target / "README.md").write_text(str(card), encoding="utf-8")


def package_part(sources: Path) -> list[Path]:
    """The files of this package that the Python files under `sources` import, directly or through one another."""
    waiting, found = list(sources.rglob("*.py")), {_PACKAGE / "__init__.py"}
    while waiting:
        new = set(_imported_files(waiting.pop())) - found
        found |= new
        waiting += new
    return sorted(found)


def _imported_files(source: Path) -> Iterator[Path]:
    """Imports within a function count too: they are needed when that function runs."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    for package, *parts in (name.split(".") for name in names):
        if package == _PACKAGE.name and parts:
            module = _PACKAGE.joinpath(*parts)
            parents = [_PACKAGE.joinpath(*parts[:depth]) / "__init__.py" for depth in range(1, len(parts) + 1)]
            yield from (p for p in (module.with_suffix(".py"), *parents) if p.is_file())


def _replace_examples(target: Path, examples: Path, license_: str | None) -> None:
    """Save the pictures again under numbers, because their names and headers may name a person."""
    if not license_:
        raise ConfigError(
            '--examples shows pictures to everybody: add --examples_license "whose they are, under what licence".'
        )
    paths = sorted(p for p in examples.glob("*") if p.is_file() and not p.name.startswith("."))
    if not 1 <= len(paths) <= _MOST_EXAMPLES:
        raise DataError(f"{examples} holds {len(paths)} files: give a folder of 1 to {_MOST_EXAMPLES} pictures.")
    shutil.rmtree(target / "examples")
    (target / "examples").mkdir()
    for number, path in enumerate(paths, 1):
        picture = read_image(path).convert("RGB")
        picture.thumbnail((_LARGEST_SIDE, _LARGEST_SIDE))
        picture.save(target / "examples" / f"example_{number:02}.png", "PNG")
    readme = target / "README.md"
    before, heading, _ = readme.read_text(encoding="utf-8").partition(_EXAMPLES_HEADING)
    text = "The pictures in `examples/` are shown by this Space's publisher, who declares to have the right to do so."
    readme.write_text(f"{before}{heading}\n{text}\n{license_}\n", encoding="utf-8")
