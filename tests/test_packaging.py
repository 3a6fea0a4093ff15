"""What `pip install .` brings: the package, its recipes and templates, and commands that work outside a clone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[1]
_BUILD = "import sys; from setuptools.build_meta import build_wheel; print(build_wheel(sys.argv[1]))"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel's content, as pip would put it into site-packages."""
    if find_spec("setuptools") is None:
        pytest.skip("setuptools, which builds the wheel, is not installed")
    source, site = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    unwanted = shutil.ignore_patterns("__pycache__")
    for name in ("brain_mri", "configs"):
        shutil.copytree(_ROOT / name, source / name, ignore=unwanted)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copyfile(_ROOT / name, source / name)
    done = subprocess.run(
        [sys.executable, "-c", _BUILD, str(site)], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(site.glob("*.whl"))) as wheel:
        wheel.extractall(site)
    return site


def _command(installed: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "brain_mri.cli", *words]
    environment = os.environ | {"PYTHONPATH": str(installed)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_wheel_holds_every_module_recipe_and_template_and_its_types(installed: Path) -> None:
    package = installed / "brain_mri"
    for kind in ("*.py", "*.md", "py.typed"):
        expected = {path.relative_to(_ROOT / "brain_mri") for path in (_ROOT / "brain_mri").rglob(kind)}
        assert expected and {path.relative_to(package) for path in package.rglob(kind)} == expected
    recipes = {path.name: path.read_text() for path in (_ROOT / "configs").glob("*.yaml")}
    assert {path.name: path.read_text() for path in (package / "recipes").iterdir()} == recipes
    folders = {path.name.split("-")[0] for path in installed.iterdir() if path.is_dir()}
    assert folders == {"brain_mri"}, "nothing else lands in site-packages"
    assert "brain-mri = brain_mri.cli:entry_point" in next(installed.glob("*.dist-info/entry_points.txt")).read_text()


def test_a_recipe_s_name_is_understood_outside_a_clone(installed: Path, tmp_path: Path) -> None:
    done = _command(installed, tmp_path, "train", "efficientnet", "--data_dir", "no/such/folder")
    assert done.returncode == 2 and "no/such/folder: no such folder" in done.stderr
    done = _command(installed, tmp_path, "train", "efficientnett", "--data_dir", "no/such/folder")
    assert done.returncode == 2 and "did you mean efficientnet?" in done.stderr


@pytest.mark.slow
def test_a_model_is_trained_and_judged_outside_a_clone(installed: Path, phantoms: Path, tmp_path: Path) -> None:
    quick = ["--epochs", "1", "--image_size", "32", "--preprocessing_workers", "1", "--export", "false"]
    done = _command(installed, tmp_path, "train", "quickstart", "--data_dir", str(phantoms), *quick)
    assert done.returncode == 0, done.stderr
    done = _command(installed, tmp_path, "evaluate", "outputs/quickstart", "--data_dir", str(phantoms))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "outputs" / "quickstart" / "evaluation" / "results.json").is_file()
