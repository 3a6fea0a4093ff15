from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from hub_server import tiny_hub
from hub_state import TinyHub, run_python
from hub_state import fresh_environment as _environment
from huggingface_hub import constants
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from transformers import TrainingArguments

from brain_mri.cli import main
from brain_mri.errors import ConfigError, DataError
from brain_mri.hub import Destination, destination_of, publish, publish_trained
from brain_mri.hub_space import package_part, stage_space
from brain_mri.inference import BrainMRIClassifier
from brain_mri.release import copy_published

# huggingface_hub's own call of its HTTP library
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")

_ROOT = Path(__file__).parents[1]
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


def _answer(code: str, environment: dict[str, str], *words: str) -> Any:
    """The JSON that a fresh Python prints last."""
    done = run_python(["-c", code, *words], environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


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


def test_the_space_knows_its_model_and_has_the_phantoms_for_examples(published: Published) -> None:
    files, record = published.hub.content("space", _SPACE), published.hub.load("space", _SPACE)
    assert record["sdk"] == "gradio" and record["variables"]["MODEL_ID"]["value"] == _MODEL
    assert {"app.py", "requirements.txt", "brain_mri/inference.py", "texts/en.json", "page/templates/bars.html"} <= set(
        files
    )
    assert [name for name in files if name.startswith("examples/synthetic_")]
    assert not [name for name in files if "__pycache__" in name or name == "draw_examples.py"]
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
    answers = _answer(code, published.reader(), _MODEL, slice_path)
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
    answer = _answer(code, published.reader(), _MODEL, slice_path)
    local = BrainMRIClassifier.from_pretrained(published.model).predict(slice_path).as_dict()
    assert answer["label"] == local["label"] and answer["is_brain_mri"] == local["is_brain_mri"]
    assert answer["probabilities"] == pytest.approx(local["probabilities"], abs=1e-6)


def test_the_spaces_part_of_the_package_imports_without_torch_and_without_the_rest(tmp_path: Path) -> None:
    stage_space(tmp_path / "page", _MODEL)
    parts = {p.name for p in package_part(tmp_path / "page")}
    assert "inference.py" in parts and not parts & {"training.py", "models.py", "hub.py", "card.py"}
    code = _BLOCK + (
        "import importlib, json, pathlib\nsys.path.insert(0, sys.argv[1])\n"
        "names = [p.stem for p in pathlib.Path(sys.argv[1], 'brain_mri').glob('*.py') if p.stem != '__init__']\n"
        "print(json.dumps([importlib.import_module(f'brain_mri.{name}').__file__ for name in names]))"
    )
    loaded = _answer(code, _environment(tmp_path, "http://127.0.0.1:9"), str(tmp_path / "page"))
    assert len(loaded) == len(parts) - 1 and all(Path(f).is_relative_to(tmp_path / "page") for f in loaded)


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
    assert "Test set of N. N., CC BY 4.0." in card and "synthetic phantoms (`python" not in card
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


def _change(model: Path) -> None:
    """A model as after another training: new small and large files."""
    (model / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes() + b"\0")
    record = json.loads((model / "run.json").read_text())
    (model / "run.json").write_text(json.dumps(record | {"seconds": record["seconds"] + 1}))


def _published_then_changed(hub: TinyHub, model: Path) -> dict[str, bytes]:
    """The files of the published revision, which those on disk are no longer."""
    publish(model, Destination(_MODEL))
    published = hub.content("model", _MODEL)
    _change(model)
    return published


def test_a_connection_cut_in_the_middle_of_the_commit_leaves_the_old_revision_and_a_rerun_completes(
    hub: TinyHub, at: Callable[..., None], model: Path
) -> None:
    at(hub.url)
    old = _published_then_changed(hub, model)
    hub.faults = {r"POST /api/models/me/brain/commit/main": "drop"}
    with pytest.raises(ConfigError, match=r"broke off .* run the same command again"):
        publish(model, Destination(_MODEL))
    assert hub.content("model", _MODEL) == old and len(hub.commits("model", _MODEL)) == 2
    hub.faults = {}
    hub.log.clear()
    publish(model, Destination(_MODEL))
    assert not [line for line in hub.log if line.startswith("PUT")]  # the large file is there from the first time
    weights = (model / "model.safetensors").read_bytes()
    assert hub.content("model", _MODEL)["model.safetensors"] == weights and len(hub.commits("model", _MODEL)) == 3


def test_a_publisher_killed_in_the_middle_of_an_upload_leaves_the_old_revision_and_a_rerun_completes(
    hub: TinyHub, at: Callable[..., None], model: Path, tmp_path: Path
) -> None:
    at(hub.url)
    old = _published_then_changed(hub, model)
    hub.faults = {r"PUT /lfs/.*": "hang"}
    process = subprocess.Popen(
        [sys.executable, "-m", "brain_mri.hub", "publish", str(model), "--model", _MODEL],
        cwd=_ROOT,
        env=_environment(tmp_path / "home", hub.url, HF_TOKEN=_TOKEN, TMPDIR=str(tmp_path)),  # it can't tidy up
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert hub.held.wait(120)
    finally:
        process.kill()
    assert process.wait(30) == -signal.SIGKILL
    hub.released.set()
    assert hub.content("model", _MODEL) == old
    hub.faults = {}
    publish(model, Destination(_MODEL))
    weights = (model / "model.safetensors").read_bytes()
    assert hub.content("model", _MODEL)["model.safetensors"] == weights and len(hub.commits("model", _MODEL)) == 3


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


def test_push_to_hub_is_checked_before_training_and_taken_from_the_trainer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", _TOKEN)

    def asked(**options: Any) -> TrainingArguments:
        return TrainingArguments(str(tmp_path), push_to_hub=True, use_cpu=True, **options)

    arguments = asked(hub_model_id=_MODEL, hub_private_repo=True)
    assert destination_of(arguments) == Destination(_MODEL, private=True)
    assert arguments.push_to_hub is False  # or the trainer would upload its checkpoints
    assert destination_of(arguments) is None
    with pytest.raises(ConfigError, match="--hub_model_id USER/NAME"):
        destination_of(asked())
    with pytest.raises(ConfigError, match="shell's history"):
        destination_of(asked(hub_model_id=_MODEL, hub_token="hf_typed"))
    with pytest.raises(ConfigError, match="goes to the branch main"):
        destination_of(asked(hub_model_id=_MODEL, hub_revision="v2"))
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="no token"):
        destination_of(asked(hub_model_id=_MODEL))


def test_a_training_whose_publishing_fails_says_where_the_model_is(
    hub: TinyHub, at: Callable[..., None], model: Path
) -> None:
    at(hub.url, "hf_reader")
    with pytest.raises(ConfigError, match=rf"may not write .*to publish it: .*hub publish {model} --model {_MODEL}"):
        publish_trained(model, Destination(_MODEL))


@pytest.mark.slow
def test_train_with_push_to_hub_ends_in_one_commit_without_checkpoints(
    hub: TinyHub, phantoms: Path, tmp_path: Path
) -> None:
    words = ["train.py", "configs/quickstart.yaml", "--data_dir", str(phantoms), "--output_dir", str(tmp_path / "out")]
    words += ["--num_train_epochs", "1", "--image_size", "64", "--preprocessing_workers", "1"]
    words += ["--push_to_hub", "--hub_model_id", _MODEL]
    done = run_python(words, _environment(tmp_path / "home", hub.url, HF_TOKEN=_TOKEN))
    assert done.returncode == 0, done.stderr
    assert f"{hub.url}/{_MODEL}: " in done.stdout and _TOKEN not in done.stdout + done.stderr
    assert hub.commits("model", _MODEL) == ["initial commit", "Publish with brain_mri"]
    names = set(hub.content("model", _MODEL))
    assert {"model.safetensors", "README.md"} <= names and {"onnx/model.onnx", "onnx/model_quantized.onnx"} & names
    assert not [name for name in names if "checkpoint" in name]


@pytest.mark.slow
def test_evaluate_and_the_model_index_say_of_the_published_model_what_evaluate_model_says(
    hub: TinyHub, at: Callable[..., None], guided_model: Path, phantoms: Path, tmp_path: Path
) -> None:
    model = tmp_path / "judged"
    shutil.copytree(guided_model, model)
    words = ["evaluate_model.py", str(model), "--data_dir", str(phantoms), "--preprocessing_workers", "1"]
    done = run_python(words, os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 0, done.stderr
    results = json.loads((model / "evaluation" / "results.json").read_text())
    at(hub.url)
    publish(model, Destination(_MODEL))
    code = """
import json, sys
from datasets import ClassLabel, Dataset, Features, Image
from evaluate import evaluator
from huggingface_hub import ModelCard
from pathlib import Path
from brain_mri.labels import LABELS
from brain_mri.metrics import load_metric
paths = sorted(Path(sys.argv[2]).glob("test/*/*.png"))
columns = {"image": [str(p) for p in paths], "label": [p.parent.name for p in paths]}
data = Dataset.from_dict(columns, Features({"image": Image(), "label": ClassLabel(names=list(LABELS))}))
one_hot = {name: [float(i == k) for k in range(len(LABELS))] for i, name in enumerate(LABELS)}
judge, metric = evaluator("image-classification"), load_metric("accuracy")
found = judge.compute(sys.argv[1], data, metric=metric, label_mapping=one_hot)
index = [[r.metric_type, r.dataset_config, r.metric_value] for r in ModelCard.load(sys.argv[1]).data.eval_results]
print(json.dumps([found["accuracy"], len(data), index]))
"""
    environment = _environment(tmp_path / "home", hub.url, HF_DATASETS_CACHE=str(tmp_path / "datasets"))
    accuracy, images, index = _answer(code, environment, _MODEL, str(phantoms))
    assert images == results["scores"]["n"] and accuracy == pytest.approx(results["scores"]["accuracy"]["value"])
    assert ["accuracy", "test", results["scores"]["accuracy"]["value"]] in index


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
    assert answer["is_brain_mri"] is True and answer["guard_score"] == pytest.approx(local.guard_score, abs=1e-3)
    assert answer["probabilities"] == pytest.approx(local.probabilities, abs=1e-3)


def _is_up(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False
