from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from support.hub_server import tiny_hub
from support.hub_state import TinyHub, json_answer, run_python
from support.hub_state import fresh_environment as _environment

from brain_mri.cli import main
from brain_mri.errors import ConfigError, DataError
from brain_mri.hub.publish import Destination, publish
from brain_mri.hub.release import copy_published
from brain_mri.hub.space import package_part, stage_space
from brain_mri.inference.classifier import BrainMRIClassifier

# huggingface_hub's own call of its HTTP library
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")

_ROOT = Path(__file__).parents[2]
_TOKEN = "hf_owner"
_MODEL, _SPACE = "me/brain", "me/page"
_NOT_IN_A_SPACE = (
    "torch",
    "transformers",
    "timm",
    "torchvision",
    "accelerate",
    "datasets",
    "evaluate",
    "sklearn",
    "onnx",
)
_BLOCK = f"import sys; sys.modules.update(dict.fromkeys({_NOT_IN_A_SPACE!r}))\n"  # to import them is then an error
_NO_NETWORK = """
import runpy, sys
def refuse(event, details):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise RuntimeError(f"{event}: {details}")
sys.addaudithook(refuse)
runpy.run_module("brain_mri.hub", run_name="__main__")
"""


@dataclass(frozen=True)
class Published:
    hub: TinyHub
    process: subprocess.CompletedProcess[str]
    model: Path
    home: Path

    def reader(self, **variables: str) -> dict[str, str]:
        home = self.home / str(time.monotonic_ns())
        return _environment(home, self.hub.url, **variables)


@pytest.fixture(scope="module")
def published(guided_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    """A model and its Space, published by the command as people call it."""
    folder = tmp_path_factory.mktemp("published")
    with tiny_hub(folder / "hub") as running:
        words = ["-m", "brain_mri.hub", "publish", str(guided_model), "--model", _MODEL, "--space", _SPACE]
        done = run_python(words, _environment(folder / "publisher", running.url, HF_TOKEN=_TOKEN))
        assert done.returncode == 0, done.stderr
        yield Published(running, done, guided_model, folder)


@pytest.fixture
def slice_path(phantoms: Path) -> str:
    return str(sorted((phantoms / "test").glob("*/*.png"))[0])


def test_publishing_makes_one_commit_of_the_published_files_and_prints_the_addresses(
    published: Published, tmp_path: Path
) -> None:
    hub = published.hub
    assert hub.commits("model", _MODEL) == ["initial commit", "Publish with brain_mri"]
    assert hub.commits("space", _SPACE) == ["initial commit", "Publish with brain_mri"]
    files = {
        p.relative_to(tmp_path / "m").as_posix(): p.read_bytes()
        for p in copy_published(published.model, tmp_path / "m")
    }
    assert hub.content("model", _MODEL) == files | {".gitattributes": hub.content("model", _MODEL)[".gitattributes"]}
    assert {"README.md", "model.safetensors", "guard.json"} <= set(files)
    assert {"onnx/model.onnx", "onnx/model_quantized.onnx"} & set(files)
    assert (
        f"{hub.url}/{_MODEL}: " in published.process.stdout
        and f"{hub.url}/spaces/{_SPACE}: " in published.process.stdout
    )


def test_the_space_knows_its_model_and_has_the_examples_with_their_licence(published: Published) -> None:
    files, record = published.hub.content("space", _SPACE), published.hub.load("space", _SPACE)
    assert record["sdk"] == "gradio" and record["variables"]["MODEL_ID"]["value"] == _MODEL
    assert {
        "app.py",
        "requirements.txt",
        "brain_mri/inference/classifier.py",
        "texts/en.json",
        "page/templates/bars.html",
    } <= set(files)
    assert {"examples/example_1.png", "examples/cases.json", "examples/README.md"} <= set(files)
    assert not [name for name in files if "__pycache__" in name or name == "choose_examples.py"]
    card = files["README.md"].decode()
    assert re.search(r"^python_version: ['\"]3\.11['\"]$", card, re.MULTILINE) and f"models:\n- {_MODEL}" in card
    assert card.split("---\n", 2)[2].strip() == (_ROOT / "space/README.md").read_text().split("---\n", 2)[2].strip()


def test_the_token_is_never_written_and_never_shown_to_the_storage_host(published: Published) -> None:
    assert _TOKEN not in published.process.stdout + published.process.stderr
    assert [line for line in published.hub.log if line.startswith("PUT /lfs/")] and not published.hub.storage_saw_token
    for path in published.home.rglob("*"):
        assert not path.is_file() or _TOKEN.encode() not in path.read_bytes(), path


@pytest.mark.slow
def test_a_fresh_process_classifies_with_plain_pipeline_from_the_hub(published: Published, slice_path: str) -> None:
    code = (
        "import json, sys; from transformers import pipeline\n"
        "print(json.dumps(pipeline('image-classification', model=sys.argv[1])(sys.argv[2])))"
    )
    answers = json_answer(code, published.reader(), _MODEL, slice_path)
    local = BrainMRIClassifier.from_pretrained(published.model, precision="fp32").predict(slice_path)
    assert answers[0]["label"] == max(local.probabilities, key=local.probabilities.__getitem__)
    assert {a["label"]: a["score"] for a in answers} == pytest.approx(local.probabilities, abs=1e-3)


def test_a_fresh_process_without_torch_classifies_with_the_classifier_from_the_hub(
    published: Published, slice_path: str
) -> None:
    code = _BLOCK + (
        "import json; from brain_mri.inference import BrainMRIClassifier\n"
        "print(json.dumps(BrainMRIClassifier.from_pretrained(sys.argv[1]).predict(sys.argv[2]).as_dict()))"
    )
    answer = json_answer(code, published.reader(), _MODEL, slice_path)
    local = BrainMRIClassifier.from_pretrained(published.model).predict(slice_path).as_dict()
    assert answer["verdict"] == local["verdict"] and answer["label"] == local["label"]
    assert answer["guard_score"] == pytest.approx(local["guard_score"], abs=1e-3)


def test_the_spaces_part_of_the_package_imports_without_torch_and_without_the_rest(tmp_path: Path) -> None:
    stage_space(tmp_path / "page", _MODEL)
    parts = {".".join(p.parts[p.parts.index("brain_mri") + 1 :]) for p in package_part(tmp_path / "page")}
    wings = {part.split(".")[0] for part in parts}
    assert "inference.classifier.py" in parts and not wings & {"training", "models", "hub", "evaluation"}
    code = _BLOCK + (
        "import importlib, json, pathlib\nsys.path.insert(0, sys.argv[1])\n"
        "root = pathlib.Path(sys.argv[1])\n"
        "names = ['.'.join(p.relative_to(root).with_suffix('').parts) for p in root.glob('brain_mri/**/*.py')]\n"
        "print(json.dumps([importlib.import_module(name.removesuffix('.__init__')).__file__ for name in names]))"
    )
    loaded = json_answer(code, _environment(tmp_path, "http://127.0.0.1:9"), str(tmp_path / "page"))
    assert len(loaded) == len(parts) and all(Path(f).is_relative_to(tmp_path / "page") for f in loaded)


def test_examples_are_the_publishers_pictures_without_their_names_and_headers(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    secret = PngInfo()
    secret.add_text("PatientName", "Jane Roe")
    Image.new("L", (900, 300), 90).save(tmp_path / "mine" / "synthetic_jane_roe.png", pnginfo=secret)
    with pytest.raises(ConfigError, match="--examples_license"):
        stage_space(tmp_path / "no", _MODEL, tmp_path / "mine")
    stage_space(tmp_path / "page", _MODEL, tmp_path / "mine", "Test set of N. N., CC BY 4.0.")
    (example,) = (tmp_path / "page" / "examples").iterdir()
    assert example.name == "example_01.png" and b"Jane" not in example.read_bytes()
    assert Image.open(example).size == (512, 171)
    card = (tmp_path / "page" / "README.md").read_text()
    assert "Test set of N. N., CC BY 4.0." in card and "Jun Cheng" not in card
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="holds 0 files"):
        stage_space(tmp_path / "other", _MODEL, tmp_path / "none", "CC0")
    with pytest.raises(ConfigError, match="add --space"):
        Destination(_MODEL, examples=tmp_path / "mine")


def test_a_second_publish_makes_no_commit_and_uploads_nothing(
    hub: TinyHub, at: Callable[..., None], model: Path
) -> None:
    at(hub.url)
    publish(model, Destination(_MODEL, _SPACE))
    before = hub.content("model", _MODEL), hub.content("space", _SPACE)
    hub.log.clear()
    lines = publish(model, Destination(_MODEL, _SPACE))
    assert [line.split(": ")[1] for line in lines] == ["nothing changed, no commit"] * 2
    assert not [line for line in hub.log if line.startswith("PUT") or "/commit/" in line]
    assert "POST /api/spaces/me/page/variables" not in hub.log  # it would restart the Space
    assert len(hub.commits("model", _MODEL)) == 2 and before == (
        hub.content("model", _MODEL),
        hub.content("space", _SPACE),
    )


def test_a_file_that_the_model_no_longer_has_is_taken_away_and_what_others_added_stays(
    hub: TinyHub, at: Callable[..., None], model: Path
) -> None:
    at(hub.url)
    publish(model, Destination(_MODEL, _SPACE))
    with hub.lock:
        for kind, name in (("model", _MODEL), ("space", _SPACE)):
            repo = hub.load(kind, name)
            new = dict.fromkeys(("NOTES.md", "onnx/mine.txt", "brain_mri/old.py"), hub.blob(b"by hand"))
            hub.commit(repo, repo["commits"][-1]["tree"] | new, "by hand")
    (model / "guard.json").unlink()
    publish(model, Destination(_MODEL, _SPACE))
    files = hub.content("model", _MODEL)
    assert "guard.json" not in files and {"NOTES.md", "onnx/mine.txt", "brain_mri/old.py"} <= set(files)
    assert "NOTES.md" in hub.content("space", _SPACE) and "brain_mri/old.py" not in hub.content("space", _SPACE)


def test_a_private_model_stays_private_and_its_space_is_told_what_it_needs(
    hub: TinyHub, at: Callable[..., None], model: Path
) -> None:
    at(hub.url)
    lines = publish(model, Destination(_MODEL, _SPACE, private=True))
    assert hub.load("model", _MODEL)["private"] and hub.load("space", _SPACE)["private"]
    assert "secret HF_TOKEN" in lines[-1]


def test_a_dry_run_lists_every_file_with_its_size_and_touches_no_network(model: Path, tmp_path: Path) -> None:
    words = ["publish", str(model), "--model", _MODEL, "--space", _SPACE, "--dry_run"]
    done = run_python(["-c", _NO_NETWORK, *words], _environment(tmp_path / "home", "http://127.0.0.1:9"))
    assert done.returncode == 0, done.stderr
    lines = re.findall(r"^ *([\d,]+)  (\S+)$", done.stdout, re.MULTILINE)
    sizes = {name: int(size.replace(",", "")) for size, name in lines}
    assert sizes["model.safetensors"] == (model / "model.safetensors").stat().st_size
    assert set(sizes) >= {p.relative_to(model).as_posix() for p in model.rglob("*") if p.is_file()}
    assert sizes["app.py"] == (_ROOT / "space" / "app.py").stat().st_size
    assert done.stdout.splitlines()[-1] == "Dry run: nothing was sent."


def test_publish_is_a_command_of_brain_mri(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["publish", str(model), "--model", _MODEL, "--dry_run"])
    assert "model.safetensors" in capsys.readouterr().out


@pytest.mark.slow
def test_the_published_space_runs_by_itself_and_serves_the_published_model(
    published: Published, slice_path: str, tmp_path: Path
) -> None:
    pytest.importorskip("gradio")
    from gradio_client import Client, handle_file

    page = tmp_path / "page"  # what the Hub would start: the repository's files, its variables, no torch
    for name, content in published.hub.content("space", _SPACE).items():
        (page / name).parent.mkdir(parents=True, exist_ok=True)
        (page / name).write_bytes(content)
    variables = {k: v["value"] for k, v in published.hub.load("space", _SPACE)["variables"].items()}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    environment = published.reader(GRADIO_SERVER_PORT=port, TMPDIR=str(tmp_path), **variables)
    code = _BLOCK + f"import runpy; sys.path.insert(0, {str(page)!r}); runpy.run_path('app.py', run_name='__main__')"
    with (tmp_path / "log.txt").open("w") as log:
        process = subprocess.Popen([sys.executable, "-c", code], cwd=page, env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 150
        while not _is_up(f"http://127.0.0.1:{port}"):
            assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "log.txt").read_text()
            time.sleep(0.2)
        answer = Client(f"http://127.0.0.1:{port}", verbose=False).predict(
            handle_file(slice_path), api_name="/classify"
        )
    finally:
        process.terminate()
        process.wait(30)
    local = BrainMRIClassifier.from_pretrained(published.model).predict(slice_path)
    assert answer["verdict"] == local.verdict and answer["guard_score"] == pytest.approx(local.guard_score, abs=1e-3)
    assert answer["label"] == local.label


def _is_up(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False
