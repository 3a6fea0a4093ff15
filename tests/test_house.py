"""The rules of the house: imports run downward, rooms stay small, only commands print, nothing is unpickled."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[1]
_PACKAGE = _ROOT / "brain_mri"

_ROOMS = sorted(_PACKAGE.glob("**/*.py"))
_SCRIPTS = [_ROOT / "train.py", _ROOT / "evaluate_model.py"]


def test_imports_keep_the_contracts_of_pyproject() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", [*_ROOMS, *_SCRIPTS], ids=lambda p: p.stem)
def test_a_file_stays_readable(path: Path) -> None:
    lines = path.read_text().count("\n")
    assert lines <= 350, f"{path.name} has {lines} lines"
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= 60, f"{path.name}: {node.name} has {length} lines"


@pytest.mark.parametrize("path", _ROOMS, ids=lambda p: p.stem)
def test_only_commands_print(path: Path) -> None:
    for function in ast.walk(ast.parse(path.read_text())):
        if isinstance(function, ast.FunctionDef) and function.name not in {"main", "run_command", "_run"}:
            calls = [n for n in ast.walk(function) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "print"]
            assert not calls, f"{path.name}: {function.name} prints"


@pytest.mark.parametrize("path", [*_ROOMS, *_SCRIPTS], ids=lambda p: p.stem)
def test_nothing_is_unpickled(path: Path) -> None:
    assert not re.search(r"\b(pickle|joblib|dill)\b|torch\.load\(|np\.load\(", path.read_text())


def test_no_file_names_a_path_of_one_machine() -> None:
    for path in [
        *_ROOMS,
        *_SCRIPTS,
        *_ROOT.glob("*.md"),
        *_ROOT.glob("docs/*.md"),
        *_ROOT.glob("configs/*.md"),
        *_ROOT.glob("configs/**/*.yaml"),
        *_ROOT.glob("tests/**/*.py"),
    ]:
        if path.name != Path(__file__).name:
            assert not re.search(r"(?<![\w.])/(work|farm|root|home)/|\.\./shared", path.read_text()), path
