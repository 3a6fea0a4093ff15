"""The two commands as a user gives them: real files, exit codes, and processes where several are the subject."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.doors import QUICK, run_door, run_evaluate, run_train
from transformers import TrainingArguments, pipeline

from brain_mri.arguments import DataArguments, EvaluationArguments, ModelArguments, RecipeArguments
from brain_mri.data.prepare import prepare_images
from brain_mri.data.transforms import Preprocessing
from brain_mri.errors import ConfigError, DataError
from brain_mri.evaluation.__main__ import main as evaluation
from brain_mri.evaluation.predict import load_model, predict
from brain_mri.evaluation.prediction_table import PredictionTable
from brain_mri.labels import LABELS
from brain_mri.metrics.scores import score
from brain_mri.model_folder import PREDICTIONS
from brain_mri.models.build import build_config, build_model, build_processor
from brain_mri.phantom.dataset import write_phantoms
from brain_mri.training.__main__ import main as training
from brain_mri.training.finalize import save_model
from brain_mri.utils.argument_parser import parse

_ROOT = Path(__file__).parents[1]
_TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONUNBUFFERED": "1"}


def _in_processes(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=_ROOT,
        env=os.environ | _ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        check=False,
    )


def _words(phantoms: Path, out: Path) -> list[str]:
    words = ["configs/quickstart.yaml", "--data_dir", str(phantoms), "--output_dir", str(out), *QUICK]
    return [*words, "--export", "false", "--save_total_limit", "5"]


@pytest.fixture(scope="module")
def trained(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "model"
    said = run_train(*_words(phantoms, out))
    assert re.search(r"train +\d+ ", said) and "Testing" not in said
    (out / "said.txt").write_text(said)
    return out


@pytest.fixture(scope="module")
def judged(trained: Path, phantoms: Path) -> Path:
    run_evaluate(str(trained), "--data_dir", str(phantoms))
    return trained


def _results(model: Path) -> dict[str, Any]:
    scores: dict[str, Any] = json.loads((model / "evaluation" / "results.json").read_text())["scores"]
    return scores


def test_a_run_leaves_a_whole_model_folder_without_pickles(trained: Path) -> None:
    for name in ("config.json", "model.safetensors", "run.json", "audit.json", "training_curves.png", "README.md"):
        assert (trained / name).stat().st_size > 0
    published = [path for path in trained.rglob("*") if "checkpoints" not in path.parts]
    assert not [path for path in published if path.suffix in {".bin", ".pt", ".pth", ".pkl"}]
    record = json.loads((trained / "run.json").read_text())
    assert sum(record["splits"]["test"].values()) == 24
    assert record["training"]["seed"] == 42 and record["versions"]["torch"] == torch.__version__.split("+")[0]


def test_the_sizes_and_the_audit_are_said_before_the_first_step(trained: Path) -> None:
    said = (trained / "said.txt").read_text()
    assert said.index("validation") < said.index("twin") < said.index("'eval_loss'")


def test_every_answer_is_kept_and_gives_the_figures_again(judged: Path) -> None:
    kept = PredictionTable.load(judged / "evaluation" / PREDICTIONS)
    figures = score(kept.probabilities, kept.labels, kept.label_names, kept.groups)
    stored = _results(judged)
    assert figures["accuracy"] == stored["accuracy"] and figures["confusion_matrix"] == stored["confusion_matrix"]
    assert figures["brier"]["value"] == pytest.approx(stored["brier"]["value"], abs=1e-7)


@pytest.mark.slow
def test_two_processes_judge_as_one_does_and_count_each_image_once(judged: Path, phantoms: Path) -> None:
    alone = _results(judged)
    words = ("evaluate_model.py", str(judged), "--data_dir", str(phantoms), "--batch_size", "5")
    two = _in_processes(*_TORCHRUN, *words)
    assert two.returncode == 0, two.stdout
    assert alone["n"] == 24 and _results(judged) == alone
    assert json.loads((judged / "evaluation" / "results.json").read_text())["processes"] == 2
    assert "24 images" in two.stdout
    for plot in ("confusion_matrix.png", "roc.png", "reliability.png"):
        assert (judged / "evaluation" / plot).stat().st_size > 0


def test_other_data_gets_figures_of_its_own_beside_the_test_split_s(
    judged: Path, phantoms: Path, tmp_path: Path
) -> None:
    other = write_phantoms(tmp_path / "elsewhere", train_per_class=1, test_per_class=4, size=64, seed=7)
    own = (judged / "evaluation" / "results.json").read_bytes()
    folds = {"folds_by": "grouped", "n_folds": 5, "finished": [1], "n": 9, "guided": False, "label_names": list(LABELS)}
    folds["metrics"] = {"accuracy": {"mean": 0.8765, "values": [0.8765]}}
    (tmp_path / "patient_wise.json").write_text(json.dumps(folds))
    words = ("--data_dir", str(other), "--patient_wise", str(tmp_path))
    run_evaluate(str(judged), *words)
    assert (judged / "evaluation" / "results.json").read_bytes() == own
    external = json.loads((judged / "evaluation" / "external_elsewhere.json").read_text())
    assert external["scores"]["n"] == 16 and "leak_free" not in external and "shortcut" not in external
    assert (judged / "evaluation" / "external_elsewhere" / "confusion_matrix.png").is_file()
    card = (judged / "README.md").read_text()
    assert "External: elsewhere" in card and "0.8765" in card
    wrong = run_door(evaluation, str(judged), "--data_dir", str(other), "--patient_wise", str(other))
    assert wrong.code == 2 and "brain_mri.crossval" in wrong.said


def test_results_have_every_protocol_that_one_folder_allows(guided_model: Path, phantoms: Path, tmp_path: Path) -> None:
    run_evaluate(str(guided_model), "--data_dir", str(phantoms), "--output_dir", str(tmp_path))
    results = json.loads((tmp_path / "results.json").read_text())
    assert {"scores", "shortcut", "guard", "evidence", "prediction_sets", "referral"} <= set(results)
    assert results["shortcut"]["n_test"] == 24 and results["shortcut"]["n_train"] == 48
    assert results["evidence"]["n"] == 18, "every tumour phantom of the test split has a box"
    assert 0 <= results["guard"]["accepted"] <= 1


def test_pipeline_gives_the_logits_that_evaluation_saw(trained: Path, phantoms: Path) -> None:
    model, preprocessing = load_model(EvaluationArguments(str(trained)))
    images = prepare_images(DataArguments(data_dir=str(phantoms)), preprocessing)
    seen = predict(model, images.rows, preprocessing).logits
    classify = pipeline("image-classification", model=str(trained), device="cpu")
    for row in range(0, len(images), 7):
        answers = classify(str(phantoms / images.rows[row]["file_name"]), function_to_apply="none", top_k=4)
        scores = {answer["label"]: answer["score"] for answer in answers}
        expected = [scores[classify.model.config.id2label[i]] for i in range(4)]
        assert np.allclose(seen[row], expected, atol=1e-4)


@pytest.mark.slow
def test_two_processes_train_together_and_leave_one_model(phantoms: Path, tmp_path: Path) -> None:
    words = (*_words(phantoms, tmp_path / "two"), "--per_device_train_batch_size", "8", "--report_to", "tensorboard")
    done = _in_processes(*_TORCHRUN, "train.py", *words)
    assert done.returncode == 0, done.stdout
    assert list((tmp_path / "two").rglob("events.out.tfevents.*")), "TensorBoard was asked for"
    record = json.loads((tmp_path / "two" / "run.json").read_text())
    assert record["processes"] == 2
    train = sum(record["splits"]["train"].values())
    assert record["global_step"] == 2 * (train // 16), "each process took its half of every batch of 16"


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_at_the_same_weights(trained: Path, phantoms: Path, tmp_path: Path) -> None:
    whole = load_file(trained / "model.safetensors")
    out = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "train.py", *_words(phantoms, out)],
        cwd=_ROOT,
        env=os.environ | _ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    first = out / "checkpoints" / "checkpoint-2" / "trainer_state.json"
    while process.poll() is None and not first.exists():
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert not (out / "run.json").exists(), "the run was over before it was killed"
    said = run_train(*_words(phantoms, out), "--resume_from_checkpoint")
    resumed = load_file(out / "model.safetensors")
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items()), said


def test_a_folder_that_holds_a_run_is_not_overwritten(trained: Path, phantoms: Path) -> None:
    before = (trained / "model.safetensors").stat().st_mtime_ns
    done = run_door(training, *_words(phantoms, trained))
    assert done.code == 2 and str(trained) in done.said and "--resume_from_checkpoint" in done.said
    assert (trained / "model.safetensors").stat().st_mtime_ns == before


def test_a_broken_folder_ends_with_code_2_and_nothing_written(tmp_path: Path) -> None:
    (tmp_path / "data" / "train" / "glioma").mkdir(parents=True)
    (tmp_path / "data" / "train" / "glioma" / "text.jpg").write_text("no picture")
    (tmp_path / "data" / "train" / "notumor").mkdir()
    out = tmp_path / "out"
    done = run_door(training, *_words(tmp_path / "data", out))
    assert done.code == 2
    assert "text.jpg" in done.said and "train/notumor/" in done.said and "Traceback" not in done.said
    assert not out.exists()


def test_a_model_is_not_put_among_its_own_data(phantoms: Path) -> None:
    done = run_door(training, *_words(phantoms, phantoms / "train" / "glioma"))
    assert done.code == 2 and "--output_dir" in done.said and not list(phantoms.rglob("run.lock"))


@pytest.mark.parametrize("command", [training, evaluation])
def test_a_data_dir_that_is_none_is_refused_before_torch_is_asked(
    command: Callable[[list[str]], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for steps in ("brain_mri.training.train", "brain_mri.evaluation.evaluate"):
        monkeypatch.setitem(sys.modules, steps, None)  # its import would be an ImportError
    (tmp_path / "empty").mkdir()
    (tmp_path / "a_file").write_text("")
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as packed:
        packed.writestr("glioma/1.png", b"")
    for words, said in (
        (["--data_dir", str(tmp_path / "nowhere")], "no such folder"),
        (["--data_dir", "typo"], "no such folder"),
        (["--data_dir", str(tmp_path / "a_file")], "is a file, not a folder"),
        (["--data_dir", str(tmp_path / "set.zip")], "is a zip: unpack it"),
        (["--data_dir", "x" * 5000], "no such folder"),
        (["--data_dir", str(tmp_path / "empty")], "no image in it"),
        ([], "no data: give --data_dir"),
    ):
        with pytest.raises(DataError, match=said):
            command(["quickstart", *words])


@pytest.mark.parametrize(
    ("model", "said"), [("nope", "no such model folder"), ("outputs/nope", "no such folder"), (".", r"no config\.json")]
)
def test_a_model_that_is_none_is_named_without_the_hub(
    model: str, said: str, phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=said) as error:
        evaluation([model, "--data_dir", str(phantoms)])
    assert "huggingface.co" not in str(error.value)


def test_a_model_has_to_be_named(phantoms: Path) -> None:
    with pytest.raises(ConfigError, match="which model"):
        evaluation(["--data_dir", str(phantoms)])


@pytest.mark.slow
def test_accelerate_on_several_cpu_processes_names_the_line_that_works(phantoms: Path, tmp_path: Path) -> None:
    launcher = ("-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2")
    done = _in_processes(*launcher, "train.py", *_words(phantoms, tmp_path / "out"))
    assert done.returncode != 0
    assert "torchrun --nproc_per_node 2 train.py" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["small_cnn", "vgg16", "resnet50", "efficientnet", "vit"])
def test_every_recipe_leaves_what_pipeline_reads_as_evaluation_did(recipe: str, phantoms: Path, tmp_path: Path) -> None:
    kinds = [DataArguments, ModelArguments, RecipeArguments, TrainingArguments]
    words = [f"configs/{recipe}.yaml", "--pretrained", "false", "--torch_compile", "false", "--data_dir", str(phantoms)]
    data_args, model_args, _, _ = parse(kinds, words)
    config = build_config(model_args)
    preprocessing = Preprocessing.of(build_processor(config, model_args))
    save_model(build_model(config, model_args, LABELS), preprocessing, tmp_path)
    model, preprocessing = load_model(EvaluationArguments(str(tmp_path)))
    rows = prepare_images(data_args, preprocessing).rows.select(range(3))
    seen = predict(model, rows, preprocessing).logits
    classify = pipeline("image-classification", model=str(tmp_path), device="cpu")
    for logits, name in zip(seen, rows["file_name"], strict=True):
        answers = classify(str(phantoms / name), function_to_apply="none", top_k=4)
        scores = {answer["label"]: answer["score"] for answer in answers}
        assert np.allclose(logits, [scores[label] for label in LABELS], atol=1e-4)
