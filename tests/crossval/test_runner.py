from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError
from support.fold_records import write_results

from brain_mri.crossval import runner
from brain_mri.crossval.__main__ import main
from brain_mri.crossval.summary import METRICS
from brain_mri.errors import BrainMRIError, ConfigError, DataError
from brain_mri.model_folder import PATIENT_WISE

_CONFIG = str(Path(__file__).parents[2] / "configs" / "quickstart.yaml")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let training and evaluation leave what they would, and note which ran in which fold."""
    ran: list[str] = []

    def pretend(module: str, words: list[str], fold: Path, processes: int) -> None:
        ran.append(f"{module.removeprefix('brain_mri.')} {fold.name}")
        if module == "brain_mri.training":
            assert words[words.index("--data_dir") + 1] == str(fold / "data") and "--learning_rate" in words
            (fold / "model").mkdir()
            (fold / "model" / "run.json").write_text("{}")
        else:
            shutil.rmtree(fold / "model")
            write_results(fold.parent, int(fold.name[-1]), 0.9)

    monkeypatch.setattr(runner, "_call", pretend)
    return ran


def _words(phantoms: Path, out: Path, *more: str) -> list[str]:
    folds = ["--data_dir", str(phantoms), "--output_dir", str(out), "--folds", "3", "--learning_rate", "1e-3"]
    return [_CONFIG, *folds, *more]


def test_the_folds_have_one_progress_bar(
    calls: list[str], phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(_words(phantoms, tmp_path))
    said = capsys.readouterr().err
    assert "Folds: 100%" in said and "3/3" in said and not re.search(r"(?<!Folds): +\d+%", said)


def test_finished_folds_are_skipped_and_a_trained_one_is_only_judged(
    calls: list[str], phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(_words(phantoms, tmp_path, "--only", "2"))
    assert calls == ["training fold2", "evaluation fold2"]
    assert json.loads((tmp_path / PATIENT_WISE).read_text())["finished"] == [2]
    (tmp_path / "fold3" / "model").mkdir(parents=True)
    (tmp_path / "fold3" / "model" / "run.json").write_text("{}")
    calls.clear()
    main(_words(phantoms, tmp_path))
    assert calls == ["training fold1", "evaluation fold1", "evaluation fold3"]
    summary = json.loads((tmp_path / PATIENT_WISE).read_text())
    assert summary["finished"] == [1, 2, 3] and summary["folds_by"] == "grouped" and summary["seed"] == 42
    assert "72 images" in (said := capsys.readouterr().out) and "0.9000 +- 0.0000" in said


def test_folds_of_two_recipes_are_never_averaged(calls: list[str], phantoms: Path, tmp_path: Path) -> None:
    main(_words(phantoms, tmp_path, "--only", "1"))
    with pytest.raises(ConfigError, match="begun with other train_options: give the same, or another --output_dir"):
        main(_words(phantoms, tmp_path, "--drop_rate", "0.5"))
    with pytest.raises(ConfigError, match="begun with other train_options"):
        main(_words(phantoms, tmp_path, "--split_seed", "7"))


def test_before_anything_is_trained_other_options_begin_anew(calls: list[str], phantoms: Path, tmp_path: Path) -> None:
    main(_words(phantoms, tmp_path, "--only", "1"))
    subprocess.run(["rm", "-r", str(tmp_path / "fold1" / "model")], check=True)
    before = sorted(os.listdir(tmp_path / "fold1" / "data" / "test" / "glioma"))
    main(_words(phantoms, tmp_path, "--only", "1", "--split_seed", "7"))
    assert sorted(os.listdir(tmp_path / "fold1" / "data" / "test" / "glioma")) != before


def test_wrong_words_are_named_before_anything_is_read(
    calls: list[str], phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="--only 4: the folds are 1, 2, 3"):
        main(_words(phantoms, tmp_path, "--only", "4"))
    with pytest.raises(ConfigError, match="no such configuration file"):
        main(["missing.yaml", "--data_dir", str(phantoms)])
    with pytest.raises(ConfigError, match="--twin_threshold"):
        main(_words(phantoms, tmp_path, "--twin_threshold", "2"))
    with pytest.raises(DataError, match="no such folder"):
        main([_CONFIG, "--data_dir", str(tmp_path / "nowhere")])
    with pytest.raises(ConfigError, match=r"'learning_ratte'.*did you mean 'learning_rate'"):
        main(_words(phantoms, tmp_path, "--learning_ratte", "1"))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="as one process"):
        main(_words(phantoms, tmp_path))
    assert not calls


def test_several_processes_share_the_batch_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def keep(command: list[str], *_: object) -> int:
        commands.append(command)
        return 0

    monkeypatch.setattr(runner, "_run", keep)
    (tmp_path / "fold1").mkdir()
    runner.run_fold(tmp_path / "fold1", _CONFIG, ["--seed", "1"], processes=2)
    train, judge = (" ".join(command) for command in commands)
    assert "--nproc_per_node 2" in train and "--per_device_train_batch_size 8 " in train and "--seed 1" in train
    assert "--nproc_per_node 2 -m brain_mri.training" in train
    assert "--nproc_per_node 2 -m brain_mri.evaluation" in judge
    runner.run_fold(tmp_path / "fold1", _CONFIG, ["--per_device_train_batch_size", "6"], processes=3)
    assert "--per_device_train_batch_size 2 " in " ".join(commands[2])
    with pytest.raises(ConfigError, match="a batch of 16 can't be divided"):
        runner.run_fold(tmp_path / "fold1", _CONFIG, [], processes=3)


def test_a_batch_under_another_name_and_a_recipe_by_name_are_understood(
    calls: list[str], phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["quickstart", *_words(phantoms, tmp_path)[1:], "--only", "1", "--batch-size", "6", "--processes", "3"]
    main(words)
    assert calls == ["training fold1", "evaluation fold1"]
    asked = json.loads((tmp_path / "plan.json").read_text())["asked"]
    assert asked["train_options"][-2:] == ["--per_device_train_batch_size", "6"]


def test_a_later_stage_goes_on_from_the_same_folds_models(calls: list[str], phantoms: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    on = ["--stage_before", str(first)]
    with pytest.raises(ConfigError, match=r"no folder of brain_mri\.crossval \(plan\.json is missing\)"):
        main(_words(phantoms, second, *on))
    main(_words(phantoms, first, "--only", "1", "--split_seed", "7"))
    with pytest.raises(ConfigError, match="its folds were made with other split_seed"):
        main(_words(phantoms, second, *on))
    on += ["--split_seed", "7"]
    with pytest.raises(ConfigError, match="its fold 2 is not trained yet"):
        main(_words(phantoms, second, *on))
    assert calls[-2:] == ["training fold1", "evaluation fold1"]
    plans = [json.loads((folder / "plan.json").read_text())["plan"] for folder in (first, second)]
    assert plans[0] == plans[1]
    with pytest.raises(ConfigError, match="was begun with other stage_before"):
        main(_words(phantoms, second, "--split_seed", "7"))
    with pytest.raises(ConfigError, match="its folds were made with other folds"):
        main([*_words(phantoms, tmp_path / "third", *on), "--folds", "4"])


def test_a_model_that_has_seen_the_folds_is_no_beginning_of_theirs(
    calls: list[str], phantoms: Path, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "run.json").write_text("{}")
    with pytest.raises(ConfigError, match="on images that the folds test: give --stage_before"):
        main(_words(phantoms, tmp_path / "folds", "--model", str(tmp_path / "model")))
    assert not calls


@pytest.mark.parametrize(("option", "file"), [("--teacher", ""), ("--weights", "model.safetensors")])
def test_what_was_trained_here_teaches_no_fold(
    calls: list[str], phantoms: Path, tmp_path: Path, option: str, file: str
) -> None:
    """Nor one that goes on from the stage before, whose own models never saw what they test."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "run.json").write_text("{}")
    words = [option, str(tmp_path / "model" / file)]
    for more in ([], ["--stage_before", str(tmp_path / "first")]):
        with pytest.raises(ConfigError, match=f"{option} .*was trained by this package"):
            main(_words(phantoms, tmp_path / "folds", *words, *more))
    assert not calls


@pytest.mark.parametrize("option", ["--teacher", "--model"])
def test_a_model_on_the_hub_that_was_trained_here_is_known_by_its_record(
    calls: list[str], phantoms: Path, tmp_path: Path, option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(model: str, name: str) -> str:
        if (model, name) != ("somebody/classifier", "run.json"):
            raise LocalEntryNotFoundError(f"{model} has no {name}")
        return name

    monkeypatch.setattr(runner, "hf_hub_download", download)
    with pytest.raises(ConfigError, match=f"{option} somebody/classifier was trained by this package"):
        main(_words(phantoms, tmp_path / "folds", option, "somebody/classifier"))
    assert not calls


def test_a_failed_fold_names_its_log_and_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.py").write_text("import sys\nsys.exit('error: the disk is full')\n")
    (tmp_path / "fold1").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(runner, "_TRAIN", "broken")
    with pytest.raises(BrainMRIError, match=r"broken failed in fold1 \(the disk is full\): see .*log\.txt"):
        runner.run_fold(tmp_path / "fold1", _CONFIG, [])


@pytest.mark.slow
def test_a_real_fold_that_was_killed_goes_on_and_the_next_start_skips_it(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = ["--num_train_epochs", "2", "--image_size", "32", "--preprocessing_workers", "1", "--save_total_limit", "5"]
    words = [_CONFIG, "--data_dir", str(phantoms), "--output_dir", str(tmp_path), "--folds", "3", "--only", "1", *quick]
    command = [sys.executable, "-m", "brain_mri.crossval", *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, env=environment, text=True, **quiet)
    checkpoints = tmp_path / "fold1" / "model" / "checkpoints"
    while process.poll() is None and not list(checkpoints.glob("checkpoint-*/trainer_state.json")):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    said = process.communicate()[1]
    assert process.returncode == 128 + signal.SIGTERM
    assert "the same command goes on" in said and "Traceback" not in said
    assert "goes on from step" in (tmp_path / "fold1" / "log.txt").read_text()
    assert not (tmp_path / PATIENT_WISE).exists()

    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr + (tmp_path / "fold1" / "log.txt").read_text()
    summary = json.loads((tmp_path / PATIENT_WISE).read_text())
    with (tmp_path / "fold1" / "data" / "patients.csv").open() as lines:
        tested = [row for row in csv.DictReader(lines) if row["file_name"].startswith("test/")]
    assert summary["finished"] == [1] and summary["n"] == len(tested) and "sd" not in summary["metrics"]["accuracy"]
    measured = {*METRICS, "pointing_game", "mass_inside", "overlap", "area_ratio"}  # the phantoms have boxes
    assert set(summary["metrics"]) == measured and len(summary["label_names"]) == 4
    assert not (tmp_path / "fold1" / "cache").exists()
    assert not (tmp_path / "fold1" / "model" / "onnx").exists(), "of a model that nobody will be served"

    log = (tmp_path / "fold1" / "log.txt").read_bytes()
    main(words)
    assert "under way" not in capsys.readouterr().out
    assert (tmp_path / "fold1" / "log.txt").read_bytes() == log
