"""What ends badly: two runs in one folder, damaged checkpoints, a full disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from datasets import DatasetDict
from safetensors import SafetensorError
from support.small_training import StopAt, small_trainer
from transformers import TrainerCallback, TrainingArguments

from brain_mri.data.transforms import Preprocessing
from brain_mri.errors import USER_ERROR_EXIT_CODE, BrainMRIError, ConfigError, run_command
from brain_mri.training import checkpoints, run
from brain_mri.utils.locks import LOCK, hold

_HOLD = "import sys, time; from brain_mri.utils.locks import hold; hold(sys.argv[1]); print('held', flush=True); "
_trainer = partial(small_trainer, num_train_epochs=1)


def _holder(folder: Path, then: str = "time.sleep(60)") -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", _HOLD + then, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "held\n"
    return process


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = _holder(tmp_path / "run")
    yield process
    process.kill()
    process.wait()


def test_a_second_run_in_the_same_folder_is_refused_by_the_name_of_the_first(
    holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    for resume in (None, "last"):
        args = TrainingArguments(str(tmp_path / "run"), resume_from_checkpoint=resume, report_to="none", use_cpu=True)
        with pytest.raises(ConfigError, match=rf"is being written by another run \(process {holder.pid} on "):
            run.begin(args)
    hold(tmp_path / "another")


def test_the_lock_dies_with_its_process_even_when_killed_and_though_its_children_live_on(tmp_path: Path) -> None:
    child = "import os; child = os.fork() or time.sleep(60); print(child, flush=True); time.sleep(60)"
    process = _holder(tmp_path, child)
    assert process.stdout
    worker = int(process.stdout.readline())
    try:
        process.kill()
        process.wait()
        os.kill(worker, 0)  # it lives
        _holder(tmp_path, "pass").wait(timeout=30)
    finally:
        os.kill(worker, signal.SIGKILL)


def test_a_run_that_wrote_nothing_leaves_nothing(tmp_path: Path) -> None:
    assert _holder(tmp_path / "new", "sys.exit(2)").wait(timeout=30) == 2
    assert not (tmp_path / "new").exists()
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "config.json").touch()
    _holder(tmp_path / "old", "pass").wait(timeout=30)
    assert [path.name for path in (tmp_path / "old").iterdir()] == ["config.json"]


def test_a_process_holds_a_folder_once_and_says_who_it_is(tmp_path: Path) -> None:
    hold(tmp_path)
    hold(tmp_path / ".." / tmp_path.name)
    assert (tmp_path / LOCK).read_text().startswith(f"{os.getpid()} on ")


def _flip(path: Path, place: float = 0.5) -> None:
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 0x10
    path.write_bytes(content)


def _begun(folder: Path, checkpoint: str = "last") -> str | None:
    args = TrainingArguments(str(folder), resume_from_checkpoint=checkpoint, report_to="none", use_cpu=True)
    return run.checkpoint_to_resume(args)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, splits: DatasetDict, preprocessing: Preprocessing) -> Path:
    """Two checkpoints of a real trainer."""
    folder = tmp_path_factory.mktemp("saved")
    trainer = _trainer(folder, splits, preprocessing)
    trainer.add_callback(StopAt(2))
    trainer.train()
    return folder


def _names(saved: Path) -> list[str]:
    return sorted(path.name for path in (saved / "checkpoint-2").iterdir())


def test_every_file_of_a_checkpoint_is_sealed(saved: Path) -> None:
    sealed = checkpoints.read_json(saved / "checkpoint-2" / checkpoints.CHECKSUMS)
    assert sorted([*sealed, checkpoints.CHECKSUMS]) == _names(saved)
    assert {"model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"} <= set(sealed)
    assert _begun(saved) == str(saved / "checkpoint-2")


def test_a_flipped_byte_anywhere_is_named_and_the_checkpoint_before_is_used(
    saved: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in _names(saved):
        path = saved / "checkpoint-2" / name
        whole = path.read_bytes()
        for place in (0, 0.5, 1) if name != checkpoints.CHECKSUMS else (0, 0.5):  # its last byte is a line's end
            _flip(path, place)
            caplog.clear()
            assert _begun(saved) == str(saved / "checkpoint-1"), (name, place)
            assert "checkpoint-2 is damaged (" in caplog.text and "going back to the one before" in caplog.text
            with pytest.raises(ConfigError, match=r"checkpoint-2 is damaged .* without a folder"):
                _begun(saved, str(saved / "checkpoint-2"))
            path.write_bytes(whole)
    assert _begun(saved) == str(saved / "checkpoint-2")


def test_a_checkpoint_that_misses_a_file_is_damaged_and_one_without_a_state_was_never_finished(
    saved: Path, caplog: pytest.LogCaptureFixture
) -> None:
    last = saved / "checkpoint-2"
    (last / "optimizer.pt").rename(saved / "kept")
    assert _begun(saved) == str(saved / "checkpoint-1") and "optimizer.pt" in caplog.text
    (saved / "kept").rename(last / "optimizer.pt")
    for name in ("trainer_state.json", checkpoints.CHECKSUMS):
        (last / name).rename(saved / name)
    caplog.clear()
    assert _begun(saved) == str(saved / "checkpoint-1") and not caplog.text
    (saved / "trainer_state.json").rename(last / "trainer_state.json")
    assert _begun(saved) == str(last), "as an older version left it: nothing to compare with"
    (saved / checkpoints.CHECKSUMS).rename(last / checkpoints.CHECKSUMS)


def test_what_follows_a_damaged_checkpoint_ends_at_the_same_weights_and_mends_it(
    tmp_path: Path, splits: DatasetDict, preprocessing: Preprocessing
) -> None:
    whole = _trainer(tmp_path, splits, preprocessing, max_steps=4)
    whole.train()
    _flip(tmp_path / "checkpoint-4" / "model.safetensors")
    (tmp_path / "checkpoint-4" / "left.partial").touch()
    _flip(tmp_path / "checkpoint-3" / "optimizer.pt")
    start = _begun(tmp_path)
    assert start == str(tmp_path / "checkpoint-2")
    resumed = _trainer(tmp_path, splits, preprocessing, max_steps=4)
    resumed.train(resume_from_checkpoint=start)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    assert _begun(tmp_path) == str(tmp_path / "checkpoint-4")
    assert not (tmp_path / "checkpoint-4" / "left.partial").exists()


def test_a_best_checkpoint_damaged_since_is_not_published(
    tmp_path: Path, splits: DatasetDict, preprocessing: Preprocessing
) -> None:
    best = {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 1, "max_steps": 2}
    trainer = _trainer(tmp_path, splits, preprocessing, metric_for_best_model="nll", greater_is_better=False, **best)

    class Damage(TrainerCallback):
        def on_save(self, args: TrainingArguments, state: object, control: object, **kwargs: object) -> None:
            if state.global_step == 2:
                _flip(Path(state.best_model_checkpoint) / "model.safetensors", 0.9)

    trainer.add_callback(Damage())
    with pytest.raises(ConfigError, match=r"is damaged \(model.safetensors"):
        trainer.train()


def test_an_error_that_is_not_the_disk_s_is_raised_as_it_is(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match="another thing"),
        checkpoints.saving(tmp_path / "checkpoint-1", True, lambda: None),
    ):
        raise RuntimeError("another thing")


@pytest.mark.slow
def test_a_full_disk_ends_in_one_sentence_and_the_last_checkpoint_is_whole(
    tmp_path: Path, splits: DatasetDict, preprocessing: Preprocessing
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("no tmpfs can be mounted here: that needs root")
    try:
        with pytest.raises(BrainMRIError, match=r"is full: checkpoint-\d+ could not be written") as caught:
            _trainer(disk / "run", splits, preprocessing, num_train_epochs=2).train()
        assert "\n" not in str(caught.value) and "space" in str(caught.value)
        left = sorted((disk / "run").iterdir())
        assert left and all(checkpoints.is_complete(one) and not checkpoints.damaged_file(one) for one in left)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_disk_that_fills_up_anywhere_ends_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    def write() -> None:
        with open("/dev/full", "w", buffering=1) as full:  # a device of Linux that is always full
            full.write("one line\n")

    def weights() -> None:  # safetensors' own words of a full disk, which are no OSError
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    with pytest.raises(SystemExit) as ended:
        run_command(write)
    assert ended.value.code == USER_ERROR_EXIT_CODE
    assert capsys.readouterr().err.startswith("error: the disk is full")
    with pytest.raises(FileNotFoundError):
        run_command(lambda: print(Path("/no/such/file").read_text()))
    with pytest.raises(SystemExit) as ended:
        run_command(weights)
    assert ended.value.code == USER_ERROR_EXIT_CODE
    assert capsys.readouterr().err.startswith("error: the disk is full")
