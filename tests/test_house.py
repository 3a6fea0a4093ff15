"""The rules of the house: imports run downward, rooms stay small, only commands print, nothing is unpickled."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[1]
_PACKAGE = _ROOT / "brain_mri"

# From the ground floor up; a room may import from the floors below its own, and from its neighbours on the same one.
_FLOORS = (
    {"errors", "labels"},
    {"arguments", "files", "checkpoints", "locks", "decisions", "overlay", "clouds", "guard", "sources", "hub_errors"},
    {
        "archives",
        "windowing",
        "dicom",
        "dicom_files",
        "nifti",
        "codestreams",
        "impostor_drawing",
        "images",
        "onnx_model",
    },
    {"volumes", "answers"},
    {"inference", "impostors"},
    {"layout", "phantom", "phantom_drawing", "phantom_anatomy", "duplicates", "splits", "shortcut"},
    {"leakage", "leakage_report"},
    {"shards"},
    {"transforms", "hardware", "loading"},
    {"stream"},
    {"data", "folds", "fold_scores"},
    {"streaming"},
    {"models", "optim"},
    {"metrics", "calibration", "scores", "plots", "evidence", "folding"},
    {"localization", "ensemble"},
    {"training", "evaluation", "export"},
    {"model_records", "card"},
    {"stages"},
    {"training_setup", "finishing", "run", "protocols", "demo"},
    {"search"},
    {"crossval", "release"},
    {"results", "hub", "hub_repository", "hub_space", "hub_data"},
    {"cli"},
)
_WITHOUT_TORCH = {
    "inference",
    "errors",
    "labels",
    "images",
    "layout",
    "phantom",
    "duplicates",
    "leakage",
    "splits",
    "calibration",
    "hub",
    "ensemble",
}
_ROOMS = sorted(_PACKAGE.glob("**/*.py"))
_SCRIPTS = [_ROOT / "train.py", _ROOT / "evaluate_model.py"]


def _room(path: Path) -> str:
    return path.relative_to(_PACKAGE).parts[0].removesuffix(".py")


def _floor(room: str) -> int:
    return next(number for number, rooms in enumerate(_FLOORS) if room in rooms)


def _imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("brain_mri"):
            parts = (node.module or "").split(".")
            rooms |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return rooms - {"__version__"}


@pytest.mark.parametrize("path", [p for p in _ROOMS if p.name != "__init__.py"], ids=lambda p: p.stem)
def test_imports_run_downward(path: Path) -> None:
    for other in _imported_rooms(path):
        assert _floor(other) <= _floor(_room(path)), f"{_room(path)} imports {other}, which stands above it"


@pytest.mark.parametrize("room", sorted(_WITHOUT_TORCH))
def test_the_rooms_without_torch_import_none(room: str) -> None:
    seen, waiting = set(), [room]
    while waiting:
        current = waiting.pop()
        seen.add(current)
        files = (
            [_PACKAGE / f"{current}.py"] if (_PACKAGE / f"{current}.py").exists() else _PACKAGE.glob(f"{current}/*.py")
        )
        for path in files:
            top = [
                line.split()[1].split(".")[0]
                for line in path.read_text().splitlines()
                if re.match("(from|import) ", line)
            ]
            assert not {"torch", "transformers", "timm", "torchvision"} & set(top), f"{current} (via {room})"
            waiting += [other for other in _imported_rooms(path) if other not in seen]


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
        if isinstance(function, ast.FunctionDef) and function.name not in {"main", "run_command"}:
            calls = [n for n in ast.walk(function) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "print"]
            assert not calls, f"{path.name}: {function.name} prints"


@pytest.mark.parametrize("path", [*_ROOMS, *_SCRIPTS], ids=lambda p: p.stem)
def test_nothing_is_unpickled(path: Path) -> None:
    assert not re.search(r"\b(pickle|joblib|dill)\b|torch\.load\(|np\.load\(", path.read_text())


def test_no_file_names_a_path_of_one_machine() -> None:
    for path in [*_ROOMS, *_SCRIPTS, *_ROOT.glob("*.md"), *_ROOT.glob("configs/**/*.yaml"), *_ROOT.glob("tests/*.py")]:
        if path.name != Path(__file__).name:
            assert not re.search(r"(?<![\w.])/(work|farm|root|home)/|\.\./shared", path.read_text()), path
