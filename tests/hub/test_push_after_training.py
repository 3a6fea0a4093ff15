"""The way from a training and an evaluation to the Hub."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from support.doors import run_evaluate, run_train
from support.hub_state import TinyHub, json_answer
from support.hub_state import fresh_environment as _environment
from transformers import TrainingArguments

from brain_mri.errors import ConfigError
from brain_mri.hub.publish import Destination, destination_of, publish, publish_trained

# huggingface_hub's own call of its HTTP library
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")

_TOKEN = "hf_owner"
_MODEL = "me/brain"


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
    hub: TinyHub, at: Callable[..., None], phantoms: Path, tmp_path: Path
) -> None:
    at(hub.url)
    words = ["configs/quickstart.yaml", "--data_dir", str(phantoms), "--output_dir", str(tmp_path / "out")]
    words += ["--num_train_epochs", "1", "--image_size", "64", "--preprocessing_workers", "1"]
    words += ["--push_to_hub", "--hub_model_id", _MODEL]
    said = run_train(*words)
    assert f"{hub.url}/{_MODEL}: " in said and _TOKEN not in said
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
    run_evaluate(str(model), "--data_dir", str(phantoms), "--preprocessing_workers", "1")
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
    accuracy, images, index = json_answer(code, environment, _MODEL, str(phantoms))
    assert images == results["scores"]["n"] and accuracy == pytest.approx(results["scores"]["accuracy"]["value"])
    assert ["accuracy", "test", results["scores"]["accuracy"]["value"]] in index
