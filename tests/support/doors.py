"""The commands as a user gives them, run in the test's own process: torch is imported once, not once per command."""

from __future__ import annotations

import io
import logging
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from transformers.utils import logging as transformers_logging

from brain_mri.errors import run_command
from brain_mri.evaluation.__main__ import main as evaluation
from brain_mri.training.__main__ import main as training
from brain_mri.utils import locks

_ROOT = Path(__file__).parents[2]
_LAUNCH = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
QUICK = ("--num_train_epochs", "2", "--image_size", "32", "--preprocessing_workers", "1")


@dataclass(frozen=True)
class Done:
    """How a command ended, and all that it printed, in order."""

    code: int
    said: str


def run_door(main: Callable[[Sequence[str]], None], *words: str) -> Done:
    """Run a command's `main` as a process of its own would; whatever it changes of this process is put back."""
    said = io.StringIO()
    code = 0
    with _as_in_a_new_process(), redirect_stdout(said), redirect_stderr(said):
        try:
            run_command(lambda: main(words))
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
    return Done(code, said.getvalue())


def run_train(*words: str) -> str:
    """Train in this process; all that was printed.

    Raises:
        AssertionError: it did not succeed.
    """
    return _succeeded(run_door(training, *words))


def run_evaluate(*words: str) -> str:
    """Judge a model in this process; all that was printed.

    Raises:
        AssertionError: it did not succeed.
    """
    return _succeeded(run_door(evaluation, *words))


def _succeeded(done: Done) -> str:
    assert done.code == 0, done.said
    return done.said


@contextmanager
def _as_in_a_new_process() -> Iterator[None]:
    """The state that a command finds at its start, in the project's root, on one thread of the CPU."""
    environment = {name: value for name, value in os.environ.items() if name not in _LAUNCH}
    environment["ACCELERATE_USE_CPU"] = "true"
    held = set(locks._held)
    with (
        chdir(_ROOT),
        mock.patch.dict(os.environ, environment, clear=True),
        _quiet_accelerate(),
        _own_logging(),
        _own_randomness(),
        _own_signals(),
    ):
        try:
            yield
        finally:
            for folder in set(locks._held) - held:
                locks._release(folder, os.getpid())


@contextmanager
def _quiet_accelerate() -> Iterator[None]:
    """Accelerate keeps what it learnt of processes and devices; one command must not hand that to the next."""
    _forget()
    try:
        yield
    finally:
        _forget()


def _forget() -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    PartialState._reset_state()


@contextmanager
def _own_logging() -> Iterator[None]:
    """No handlers yet, so that the command sets up its console, as it does in a process of its own."""
    root, ours = logging.getLogger(), logging.getLogger("brain_mri")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    root.handlers[:] = []
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(levels[0])
        ours.setLevel(levels[1])
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()


@contextmanager
def _own_randomness() -> Iterator[None]:
    """Training seeds every generator and leaves one thread; a test after it draws as if it had not run."""
    threads, drawn, numbers = torch.get_num_threads(), random.getstate(), np.random.get_state()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(threads)
        random.setstate(drawn)
        np.random.set_state(numbers)


@contextmanager
def _own_signals() -> Iterator[None]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    hooks = sys.unraisablehook, sys.excepthook
    try:
        yield
    finally:
        sys.unraisablehook, sys.excepthook = hooks
        for number, handler in handlers.items():
            signal.signal(number, handler)
