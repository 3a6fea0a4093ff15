from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import ModelCard, constants
from support.hub_state import TinyHub, fresh_environment, run_python

from brain_mri.cli import main
from brain_mri.errors import ConfigError, DataError
from brain_mri.hub.dataset import push_data

# huggingface_hub's own call of its HTTP library
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")

_TOKEN = "hf_owner"
_DATASET = "me/scans"
_ABOUT = {"license_": "cc0-1.0", "source": "drawn by a program"}


def test_a_folder_becomes_a_data_set_in_one_commit_with_its_audit_in_the_card(
    hub: TinyHub, at: Callable[..., None], phantoms: Path
) -> None:
    at(hub.url)
    lines = push_data(phantoms, _DATASET, validation_fraction=0.25, shard_bytes=60_000, **_ABOUT)
    assert "test images" in lines[0] and lines[1].startswith(f"{hub.url}/datasets/me/scans: ")
    assert hub.commits("dataset", _DATASET) == ["initial commit", "Publish with brain_mri"]
    files = hub.content("dataset", _DATASET)
    splits = {name.split("/")[1].split("-")[0] for name in files if name.startswith("data/")}
    assert splits == {"train", "validation", "test"} and {"README.md", "audit.json"} <= set(files)
    card = files["README.md"].decode()
    assert "license: cc0-1.0" in card and lines[0].split(";")[0] in card.replace("\n", " ")
    assert not hub.storage_saw_token and _TOKEN not in str(lines)


def test_a_second_push_makes_no_commit_and_what_the_folder_lost_goes_while_what_others_added_stays(
    hub: TinyHub, at: Callable[..., None], phantoms: Path, tmp_path: Path
) -> None:
    at(hub.url)
    folder = tmp_path / "mine"
    shutil.copytree(phantoms, folder)
    push_data(folder, _DATASET, **_ABOUT)
    hub.log.clear()
    assert push_data(folder, _DATASET, **_ABOUT)[1].endswith(": nothing changed, no commit")
    assert not [line for line in hub.log if line.startswith("PUT") or "/commit/" in line]
    with hub.lock:
        repo = hub.load("dataset", _DATASET)
        hub.commit(repo, repo["commits"][-1]["tree"] | {"NOTES.md": hub.blob(b"by hand")}, "by hand")
    shutil.rmtree(folder / "test")
    for table in ("patients.csv", "boxes.csv"):
        lines = (folder / table).read_text().splitlines()
        (folder / table).write_text("\n".join(line for line in lines if not line.startswith("test/")) + "\n")
    push_data(folder, _DATASET, **_ABOUT)
    files = hub.content("dataset", _DATASET)
    assert "NOTES.md" in files and not [name for name in files if name.startswith("data/test")]


def test_a_dry_run_lists_the_shards_and_needs_neither_network_nor_token(
    phantoms: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    words = ["push_data", str(phantoms), "--dataset", _DATASET, "--license", "cc0-1.0", "--source", "x"]
    main([*words, "--dry_run"])
    said = capsys.readouterr().out
    assert re.search(r"^ +[\d,]+  data/train-00000-of-00001\.parquet$", said, re.MULTILINE)
    assert said.splitlines()[-1] == "Dry run: nothing was sent."
    with pytest.raises(ConfigError, match="no token"):
        main(words)


def _refusal(folder: Path, dataset: str = _DATASET, private: bool | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        push_data(folder, dataset, private, **_ABOUT)
    sentence = str(caught.value)
    assert "\n" not in sentence and re.search(r"[.)]$", sentence) and not re.search(r"hf_\w+", sentence), sentence
    return sentence


def test_what_the_hub_refuses_is_one_sentence_with_the_fix(
    hub: TinyHub, at: Callable[..., None], phantoms: Path, tmp_path: Path
) -> None:
    at(hub.url, "hf_reader")
    assert "may not write to me/scans" in _refusal(phantoms)
    at(hub.url)
    other = hub.create("dataset", "me/poems")
    hub.commit(other, {"data/train.csv": hub.blob(b"a,b\n")}, "poems")
    hub.create("dataset", "me/open")
    assert "me/poems holds another data set: give --dataset a new name" in _refusal(phantoms, "me/poems")
    assert hub.commits("dataset", "me/poems") == ["initial commit", "poems"]
    assert "me/open is public: make it private" in _refusal(phantoms, "me/open", private=True)
    hub.faults = {"POST /api/datasets/.*/commit/.*": "drop"}
    assert "run the same command again" in _refusal(phantoms)
    hub.faults = {}
    assert "commit" in push_data(phantoms, _DATASET, **_ABOUT)[1]
    with pytest.raises(ConfigError, match="--dataset scans: give an id"):
        push_data(phantoms, "scans", **_ABOUT)
    (tmp_path / "train" / "glioma").mkdir(parents=True)
    (tmp_path / "train" / "glioma" / "text.jpg").write_text("not a picture")
    with pytest.raises(DataError, match="not a picture"):
        push_data(tmp_path / "train", _DATASET, **_ABOUT)


_READ = """
import json, sys
from brain_mri.arguments import DataArguments, ModelArguments
from brain_mri.data.prepare import fingerprint, prepare_images
from brain_mri.errors import DataError
from brain_mri.models.build import build_config, build_processor
from brain_mri.data.transforms import Preprocessing
model = ModelArguments("timm/resnet18.a1_in1k", pretrained=False, image_size=32)
preprocessing = Preprocessing.of(build_processor(build_config(model), model))
found = []
for where, revision in ((sys.argv[1], None), (sys.argv[2], None), (sys.argv[2], sys.argv[3])):
    images = prepare_images(DataArguments(data_dir=where, data_revision=revision), preprocessing)
    found.append([fingerprint(images), sorted(set(images.rows["split"]))])
try:
    prepare_images(DataArguments(data_dir=sys.argv[2], data_revision="nowhere"), preprocessing)
except DataError as error:
    found.append(str(error))
print(json.dumps(found))
"""


@pytest.mark.slow
def test_a_fresh_process_reads_and_streams_from_the_hub_what_the_folder_holds_at_any_revision(
    hub: TinyHub, at: Callable[..., None], phantoms: Path, tmp_path: Path
) -> None:
    at(hub.url)
    push_data(phantoms, _DATASET, **_ABOUT)
    first = hub.load("dataset", _DATASET)["commits"][-1]["oid"]
    push_data(phantoms, _DATASET, validation_fraction=0.25, shard_bytes=60_000, **_ABOUT)
    assert len(hub.commits("dataset", _DATASET)) == 3
    environment = fresh_environment(tmp_path / "home", hub.url, HF_DATASETS_CACHE=str(tmp_path / "datasets"))
    done = run_python(["-c", _READ, str(phantoms), _DATASET, first], environment)
    assert done.returncode == 0, done.stdout + done.stderr
    folder, newest, earlier, nowhere = json.loads(done.stdout.splitlines()[-1])
    assert newest == [folder[0], ["test", "train", "validation"]] and earlier == [folder[0], ["test", "train"]]
    assert "at revision 'nowhere'" in nowhere

    words = ["configs/quickstart.yaml", "--data_dir", _DATASET, "--output_dir", str(tmp_path / "model")]
    words += ["--streaming", "true", "--num_train_epochs", "1", "--image_size", "32", "--disable_tqdm", "true"]
    words += ["--per_device_train_batch_size", "8", "--preprocessing_workers", "1", "--export", "false"]
    hub.log.clear()
    environment = fresh_environment(tmp_path / "streamer", hub.url, HF_DATASETS_CACHE=str(tmp_path / "streamed"))
    done = run_python(["train.py", *words], environment)
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((tmp_path / "model" / "run.json").read_text())
    assert ModelCard.load(tmp_path / "model" / "README.md").data.datasets == [_DATASET]
    assert record["data"]["streaming"] and record["global_step"] == sum(record["splits"]["train"].values()) // 8
    train = [data for name, data in hub.content("dataset", _DATASET).items() if name.startswith("data/train")]
    kept = [p for folder in ("streamer", "streamed") for p in (tmp_path / folder).rglob("*") if p.is_file()]
    assert not [p for p in kept if "train" in p.name or p.read_bytes() in train], "training images were kept on disk"
    assert [p for p in kept if "validation" in p.name]
