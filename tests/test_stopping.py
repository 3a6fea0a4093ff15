"""Ctrl-C and SIGTERM: one sentence that says how to go on, no traceback, the exit code of a shell."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr
from pathlib import Path

import psutil
import pytest
from support.doors import QUICK, run_door

from brain_mri.stopping import advise
from brain_mri.training.__main__ import main as training

_ROOT = Path(__file__).parents[1]
_ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONUNBUFFERED": "1"}
_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


@pytest.mark.parametrize("number", _CODES)
def test_a_stopped_command_says_how_to_go_on(number: signal.Signals) -> None:
    def main(words: object) -> None:
        advise(lambda: "go on by hand.")
        try:
            os.kill(os.getpid(), number)
            time.sleep(5)
        finally:
            raise RuntimeError("a worker died of the same signal")

    done = run_door(main)
    assert done.code == _CODES[number]
    assert done.said.strip().endswith(": go on by hand.") and done.said.strip().count("\n") == 0


class _Loader:
    """Deleted, as a data loader that waits for its workers then: Python drops what is raised meanwhile."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        signal.raise_signal(self.number)


@pytest.mark.parametrize("number", _CODES)
def test_a_signal_is_not_lost_where_python_drops_what_it_raises(number: signal.Signals) -> None:
    def main(words: object) -> None:
        _Loader(number)
        time.sleep(30)

    done = run_door(main)
    assert done.code == _CODES[number] and done.said.strip().count("\n") == 0


_AT_A_FORK = """
import os, signal, threading, time
lock = threading.Lock()
def give_back():
    signal.raise_signal(signal.SIGTERM)
    lock.release()
os.register_at_fork(before=lock.acquire, after_in_parent=give_back)
from brain_mri.errors import run_command
def main():
    if os.fork() == 0:
        os._exit(0)
    try:
        time.sleep(30)
    finally:
        print("locked:", lock.locked())
run_command(main)
"""


def test_a_signal_in_the_midst_of_a_fork_stops_the_command_once_the_locks_are_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", _AT_A_FORK], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 143 and "stopped by SIGTERM" in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == "locked: False\n"


def test_a_helper_whose_main_process_is_gone_says_nothing() -> None:
    def main(words: object) -> None:
        pid = os.fork()
        if pid == 0:
            with redirect_stderr(io.StringIO()) as said:
                sys.excepthook(ConnectionResetError, ConnectionResetError(), None)
                silent = not said.getvalue()
                sys.excepthook(ValueError, ValueError("of its own"), None)
            os._exit(0 if silent and "of its own" in said.getvalue() else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

    assert run_door(main).code == 0


def test_only_the_first_process_of_a_launch_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("support.doors._LAUNCH", ())
    monkeypatch.setenv("RANK", "1")
    done = run_door(lambda words: os.kill(os.getpid(), signal.SIGTERM))
    assert (done.code, done.said) == (143, "")


def test_the_handlers_from_before_are_put_back() -> None:
    before = [signal.getsignal(number) for number in _CODES]
    assert run_door(lambda words: None).code == 0
    assert [signal.getsignal(number) for number in _CODES] == before


def test_a_tracker_that_is_not_installed_is_refused_before_anything_is_read() -> None:
    for name in ("mlflow", "wandbb"):
        done = run_door(training, "quickstart", "--data_dir", "no/such/folder", "--report_to", name)
        assert done.code == 2 and f"--report_to {name}" in done.said and "no/such" not in done.said


def _stopped(folder: Path, command: list[str], number: signal.Signals) -> tuple[int, str]:
    """The exit code and output of a training that gets the signal once it has saved a checkpoint."""
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(command, cwd=_ROOT, env=_ENVIRONMENT, stdout=log, stderr=log)
    while process.poll() is None and not list(folder.glob("model/checkpoints/checkpoint-*/checksums.json")):
        time.sleep(0.05)
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    code = process.wait(timeout=60)
    psutil.wait_procs(family, timeout=30)
    return code, (folder / "log.txt").read_text()


def _words(phantoms: Path, folder: Path) -> list[str]:
    words = ["train.py", "configs/quickstart.yaml", *QUICK, "--export", "false", "--num_train_epochs", "500"]
    return [*words, "--data_dir", str(phantoms), "--output_dir", str(folder / "model")]


@pytest.mark.slow
@pytest.mark.parametrize("number", _CODES)
def test_a_training_ends_with_one_sentence(phantoms: Path, tmp_path: Path, number: signal.Signals) -> None:
    words = [*_words(phantoms, tmp_path), "--dataloader_num_workers", "1"]
    code, said = _stopped(tmp_path, [sys.executable, *words], number)
    assert code == _CODES[number] and "Traceback" not in said
    assert len(re.findall(r"^stopped by .* goes on from step \d+, which .*$", said, re.MULTILINE)) == 1


@pytest.mark.slow
def test_the_processes_of_a_launch_say_it_once(phantoms: Path, tmp_path: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    _, said = _stopped(tmp_path, [*launcher, *_words(phantoms, tmp_path)], signal.SIGTERM)
    assert len(re.findall(r"^stopped by SIGTERM: .* goes on from step \d+", said, re.MULTILINE)) == 1
    assert "Stopped" not in said, "no traceback but the launcher's own"


@pytest.mark.slow
def test_a_training_ends_with_its_launcher(phantoms: Path, tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", "configs/accelerate/cpu.yaml"]
    _, said = _stopped(tmp_path, [*launch, *_words(phantoms, tmp_path)], signal.SIGTERM)
    assert "stopped by SIGTERM: the same command with --resume_from_checkpoint goes on from step" in said
    assert "Traceback" not in said
