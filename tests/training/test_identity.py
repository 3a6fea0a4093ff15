"""Only the same run goes on from a checkpoint; what may change on the way is said, and asked for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from datasets import DatasetDict
from support.doors import Done, run_door
from support.small_training import small_trainer

from brain_mri.data.transforms import Preprocessing
from brain_mri.errors import USER_ERROR_EXIT_CODE
from brain_mri.model_folder import BEGUN, CHECKPOINTS, RUN
from brain_mri.training.__main__ import main as training

_QUICK = ("--image_size", "32", "--preprocessing_workers", "1", "--export", "false", "--guidance", "0")


def _train(data: Path, out: Path, *more: str) -> Done:
    return run_door(training, "quickstart", "--data_dir", str(data), "--output_dir", str(out), *_QUICK, *more)


@pytest.fixture(scope="module")
def begun(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch."""
    folder = tmp_path_factory.mktemp("begun") / "run"
    done = _train(phantoms, folder, "--num_train_epochs", "1")
    assert done.code == 0, done.said
    return folder


@pytest.fixture
def stopped(begun: Path, tmp_path: Path) -> Path:
    """A copy of that run as a stop before its end would have left it."""
    folder = Path(shutil.copytree(begun, tmp_path / "run"))
    (folder / RUN).unlink()
    return folder


def _refused(done: Done, *said: str) -> None:
    assert done.code == USER_ERROR_EXIT_CODE and "Traceback" not in done.said
    error = [line for line in done.said.splitlines() if line.startswith("error: ")]
    assert len(error) == 1
    for words in said:
        assert words in error[0], error[0]


def _resume(data: Path, folder: Path, *more: str) -> Done:
    return _train(data, folder, "--num_train_epochs", "1", *more, "--resume_from_checkpoint")


def test_the_same_command_goes_on(stopped: Path, phantoms: Path) -> None:
    done = _resume(phantoms, stopped, "--logging_steps", "1", "--final_output_stride", "0")
    assert done.code == 0, done.said
    assert (stopped / RUN).is_file() and (stopped / BEGUN).is_file()


def test_other_classes_are_refused_in_one_sentence(stopped: Path, phantoms: Path, tmp_path: Path) -> None:
    before = (stopped / "config.json").read_bytes()
    for split in ("train", "test"):
        shutil.copytree(phantoms / split / "glioma", tmp_path / "two" / split / "yes")
        shutil.copytree(phantoms / split / "no_tumor", tmp_path / "two" / split / "no")
    _refused(_resume(tmp_path / "two", stopped), "classes: glioma, meningioma, no_tumor, pituitary, now no, yes")
    assert (stopped / "config.json").read_bytes() == before


def test_another_image_or_another_patient_is_refused(stopped: Path, phantoms: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(phantoms, tmp_path / "other"))
    table = (other / "patients.csv").read_text().splitlines()
    (other / "patients.csv").write_text("\n".join([table[0], table[1] + "x", *table[2:]]) + "\n")
    _refused(_resume(other, stopped), "patients, boxes and findings")
    shutil.copy(phantoms / "patients.csv", other)
    next(other.glob("train/glioma/*")).write_bytes(next(other.glob("test/glioma/*")).read_bytes())
    _refused(_resume(other, stopped), "images: 72 (")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--image_size", "64"], "--image_size: 32, now 64"),
        (["--split_seed", "1"], "--split_seed: 42, now 1"),
        (["--mixup", "0.2"], "--mixup: 0.0, now 0.2"),
        (["--weight_decay", "0.2"], "--weight_decay: 0.05, now 0.2"),
        (["--seed", "1", "--learning_rate", "1"], "--seed: 42, now 1; --learning_rate: 0.002, now 1.0"),
    ],
)
def test_another_recipe_is_refused_whatever_else_is_allowed(
    words: list[str], said: str, stopped: Path, phantoms: Path
) -> None:
    _refused(_resume(phantoms, stopped, *words, "--resume_with_changes"), *said.split("; "))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--per_device_train_batch_size", "8"], "--per_device_train_batch_size: 16, now 8"),
        (["--learning_rate", "1e-3"], "--learning_rate: 0.002, now 0.001"),
        (["--num_train_epochs", "2"], "--num_train_epochs: 1.0, now 2.0"),
    ],
)
def test_other_steps_are_said_and_have_to_be_asked_for(
    words: list[str], said: str, stopped: Path, phantoms: Path
) -> None:
    _refused(_resume(phantoms, stopped, *words), said, "--resume_with_changes")
    done = _resume(phantoms, stopped, *words, "--resume_with_changes")
    assert done.code == 0 and said in done.said
    _refused(_resume(phantoms, stopped), said.split(":")[0])  # this is what the run is from here on


def test_another_number_of_processes_is_one_of_the_steps(stopped: Path, phantoms: Path) -> None:
    record = json.loads((stopped / BEGUN).read_text())
    (stopped / BEGUN).write_text(json.dumps(record | {"processes": 2}))
    _refused(_resume(phantoms, stopped), "processes: 2, now 1")
    assert _resume(phantoms, stopped, "--resume_with_changes").code == 0


def test_a_checkpoint_of_another_folder_is_compared_with_its_own_run(
    stopped: Path, phantoms: Path, tmp_path: Path
) -> None:
    checkpoint = next((stopped / CHECKPOINTS).glob("checkpoint-*"))
    words = ("--num_train_epochs", "1", "--resume_from_checkpoint", str(checkpoint))
    _refused(_train(phantoms, tmp_path / "new", "--mixup", "0.1", *words), str(stopped), "--mixup")
    assert not (tmp_path / "new").exists() or not (tmp_path / "new" / BEGUN).exists()
    assert _train(phantoms, tmp_path / "new", *words).code == 0


def test_a_record_that_is_gone_is_said_and_a_broken_one_refused(stopped: Path, phantoms: Path) -> None:
    (stopped / BEGUN).write_text("{")
    _refused(_resume(phantoms, stopped), BEGUN)
    (stopped / BEGUN).unlink()
    done = _resume(phantoms, stopped)
    assert done.code == 0 and f"{BEGUN} is missing" in done.said


@pytest.mark.parametrize("scheduler", ["linear", "reduce_lr_on_plateau"])
def test_another_learning_rate_is_the_one_that_is_trained_with(
    scheduler: str, tmp_path: Path, splits: DatasetDict, preprocessing: Preprocessing
) -> None:
    options = {"lr_scheduler_type": scheduler, "eval_strategy": "steps", "eval_steps": 1, "logging_steps": 1}
    rates = []
    for rate, resume in ((1e-3, None), (1e-4, str(tmp_path / "checkpoint-4")), (1e-3, str(tmp_path / "checkpoint-4"))):
        torch.manual_seed(0)
        trainer = small_trainer(tmp_path, splits, preprocessing, learning_rate=rate, max_steps=6, **options)
        trainer.train(resume)
        rates.append([entry["learning_rate"] for entry in trainer.state.log_history if "learning_rate" in entry])
    whole, lower, same = rates
    assert same == whole
    assert lower[:4] == whole[:4]
    assert lower[5:] == pytest.approx([rate / 10 for rate in whole[5:]])
