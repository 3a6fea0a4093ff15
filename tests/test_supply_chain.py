"""What comes from others and what goes to them: nothing is unpickled, the Space is pinned, git holds no surprise."""

from __future__ import annotations

import ast
import io
import os
import pickle
import re
import subprocess
import sys
import tomllib
from importlib.metadata import metadata
from pathlib import Path

import httpx
import pytest
from packaging.requirements import Requirement
from PIL import Image
from support.space_server import grey, serving, write_model

from brain_mri.arguments import ModelArguments
from brain_mri.data.transforms import Preprocessing
from brain_mri.labels import LABELS
from brain_mri.models.build import build_config, build_model, build_processor
from brain_mri.training.finalize import save_model

_ROOT = Path(__file__).parents[1]
_BLOCKED = {
    "PYTHONPATH": str(_ROOT / "tests" / "support" / "no_pickle"),
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
}
_ENDED = 86  # how no_pickle/sitecustomize.py ends a process that unpickles
_MEGABYTES = 16


def _run(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *words]
    environment = os.environ | _BLOCKED | variables
    return subprocess.run(command, cwd=_ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False)


@pytest.fixture(scope="module")
def torch_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `train.py` leaves for `pipeline` and `evaluate_model.py`, of a network with random weights."""
    layers = '{"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16]}'
    args = ModelArguments("timm/resnet18.a1_in1k", pretrained=False, image_size=32, model_args=layers)
    config = build_config(args)
    folder = tmp_path_factory.mktemp("random") / "model"
    save_model(build_model(config, args, LABELS), Preprocessing.of(build_processor(config, args)), folder)
    return folder


@pytest.mark.parametrize(
    "code",
    [
        "pickle.loads(sys.argv[1].encode('latin1'))",
        "pickle.load(io.BytesIO(sys.argv[1].encode('latin1')))",
        "pickle.Unpickler(io.BytesIO(sys.argv[1].encode('latin1'))).load()",
        "pickle._Unpickler(io.BytesIO(sys.argv[1].encode('latin1'))).load()",
        "_pickle.loads(sys.argv[1].encode('latin1'))",
        "np.load(io.BytesIO(sys.argv[1].encode('latin1')), allow_pickle=True)",
    ],
)
def test_the_guard_of_these_tests_stops_every_way_to_unpickle(code: str) -> None:
    evil = pickle.dumps(os.getcwd, protocol=0).decode("latin1")  # a function looked up by name, as an attack is
    done = _run("-c", f"import io, pickle, _pickle, sys, numpy as np; {code}", evil)
    assert done.returncode == _ENDED and "UNPICKLED" in done.stderr


def test_torch_loads_weights_only_past_the_guard_and_nothing_else(tmp_path: Path) -> None:
    import torch

    torch.save({"step": 3, "weights": torch.ones(2)}, tmp_path / "state.pt")
    load = (
        "import sys, torch; [print(torch.load(sys.argv[1], weights_only=only), flush=True) for only in (True, False)]"
    )
    done = _run("-c", load, str(tmp_path / "state.pt"))
    assert done.returncode == _ENDED and done.stdout.count("'step': 3") == 1, done.stderr


def test_predict_unpickles_nothing(tmp_path: Path) -> None:
    grey(0.4).save(tmp_path / "slice.png")
    model = write_model(tmp_path / "model")
    done = _run("-m", "brain_mri.inference", str(tmp_path / "slice.png"), "--model", str(model))
    assert done.returncode == 0 and "meningioma" in done.stdout, done.stderr


@pytest.mark.slow
def test_evaluation_unpickles_nothing(torch_model: Path, phantoms: Path, tmp_path: Path) -> None:
    words = ("--data_dir", str(phantoms), "--output_dir", str(tmp_path / "out"))
    done = _run("evaluate_model.py", str(torch_model), *words, HF_DATASETS_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "results.json").is_file()


_READ = """
import sys
from brain_mri.arguments import DataArguments, ModelArguments
from brain_mri.data.prepare import prepare_images
from brain_mri.models.build import build_config, build_processor
from brain_mri.data.transforms import Preprocessing
model = ModelArguments("timm/resnet18.a1_in1k", pretrained=False, image_size=32)
preprocessing = Preprocessing.of(build_processor(build_config(model), model))
print(len(prepare_images(DataArguments(data_dir=sys.argv[1], preprocessing_workers=2), preprocessing).rows))
"""


@pytest.mark.slow
def test_processes_that_read_pictures_together_unpickle_only_what_they_send_each_other(tmp_path: Path) -> None:
    for label in LABELS:
        (tmp_path / "data" / "train" / label).mkdir(parents=True)
        for i in range(130):  # from 500 on, several processes read
            Image.new("L", (8, 8), i).save(tmp_path / "data" / "train" / label / f"{i}.png")
    done = _run("-c", _READ, str(tmp_path / "data"), HF_DATASETS_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 0 and done.stdout.strip() == "520", done.stderr


@pytest.mark.slow
def test_pipeline_unpickles_nothing_of_a_model_folder(torch_model: Path, phantoms: Path) -> None:
    code = "import sys; from transformers import pipeline; "
    code += "print(pipeline('image-classification', model=sys.argv[1], device='cpu')(sys.argv[2]))"
    done = _run("-c", code, str(torch_model), str(next(phantoms.rglob("*.png"))))
    assert done.returncode == 0 and "glioma" in done.stdout, done.stderr


@pytest.mark.slow
def test_the_page_starts_and_answers_without_unpickling(tmp_path: Path) -> None:
    pytest.importorskip("gradio", reason="gradio is not installed: pip install -r space/requirements.txt")
    content = io.BytesIO()
    grey(0.4).save(content, "PNG")
    with serving(write_model(tmp_path / "model"), tmp_path / "space", **_BLOCKED) as server:
        sent = httpx.post(f"{server.url}/gradio_api/upload", files={"files": ("a.png", content.getvalue())}).json()[0]
        file = {"path": sent, "orig_name": "a.png", "meta": {"_type": "gradio.FileData"}}
        url = f"{server.url}/gradio_api/call/classify"
        asked = httpx.post(url, json={"data": [file]}).raise_for_status().json()["event_id"]
        assert "meningioma" in httpx.get(f"{url}/{asked}", timeout=60).text


_SOURCES = sorted(p for part in ("brain_mri", "space", "benchmarks") for p in (_ROOT / part).rglob("*.py"))
_SOURCES += [_ROOT / "train.py", _ROOT / "evaluate_model.py"]
_UNSAFE_MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
_UNSAFE_CALLS = {
    "torch.load",
    "np.load",
    "numpy.load",
    "pd.read_pickle",
    "yaml.load",
    "yaml.unsafe_load",
    "eval",
    "exec",
}
_UNSAFE_OPTIONS = {("weights_only", False), ("allow_pickle", True), ("trust_remote_code", True)}


@pytest.mark.parametrize("path", _SOURCES, ids=lambda path: str(path.relative_to(_ROOT)))
def test_no_code_of_ours_unpickles_or_runs_what_it_reads(path: Path) -> None:
    """`test_house.py` greps the package's rooms; this reads the syntax of the page and the benchmarks too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert not {alias.name.split(".")[0] for alias in node.names} & _UNSAFE_MODULES
        elif isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] not in _UNSAFE_MODULES
        elif isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in _UNSAFE_CALLS, f"line {node.lineno}"
            for option in node.keywords:
                value = option.value.value if isinstance(option.value, ast.Constant) else None
                assert (option.arg, value) not in _UNSAFE_OPTIONS, f"line {node.lineno}"


def _requirements(lines: list[str]) -> dict[str, Requirement]:
    found = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    return {one.name: one for one in found}


def test_the_space_is_pinned_to_versions_that_the_package_allows() -> None:
    space = _requirements((_ROOT / "space" / "requirements.txt").read_text().splitlines())
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
    ours = _requirements(project["dependencies"] + project["optional-dependencies"]["dev"])
    for name, wanted in space.items():
        (pin,) = wanted.specifier
        assert pin.operator == "==" and "*" not in pin.version, f"{name}: not one version, but {wanted.specifier}"
        assert pin.version in ours[name].specifier, f"{name}: the package wants {ours[name].specifier}"


def test_the_licence_is_named_wherever_it_is_looked_for() -> None:
    assert "Apache License" in (_ROOT / "LICENSE").read_text()[:200]
    assert metadata("brain-mri")["License-Expression"] == "Apache-2.0"
    for card in (_ROOT / "space" / "README.md", *_ROOT.glob("release/README.md")):
        assert re.search(r"^license: \S+$", card.read_text().split("---")[1], re.MULTILINE), card


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=_ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("this is no git checkout")
    return [path for name in listed.stdout.split("\0") if name and (path := _ROOT / name).is_file()]


def test_no_file_in_git_is_larger_than_a_small_model(tracked: list[Path]) -> None:
    for path in tracked:
        assert path.stat().st_size <= _MEGABYTES * 2**20, path


def test_the_only_binaries_in_git_are_the_release_pictures_and_what_tests_were_broken_by(tracked: list[Path]) -> None:
    """The model, pictures drawn by our own code (phantoms, screenshots), and the fuzzer's findings."""
    allowed = ("release/", "docs/", "space/examples/", "tests/regressions/")
    for path in tracked:
        name, content = path.relative_to(_ROOT).as_posix(), path.read_bytes()
        assert name.startswith(allowed) or b"\0" not in content, name
        assert path.suffix not in {".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt", ".npy", ".npz", ".so", ".exe"}, (
            name
        )
