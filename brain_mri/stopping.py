"""Ctrl-C and SIGTERM end a command with one sentence that says how to go on. No torch."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_NUMBERS = (signal.SIGINT, signal.SIGTERM)
_RANKS = ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "MV2_COMM_WORLD_RANK")  # as accelerate reads them
_ONE_PRESS = 1.0  # seconds: a launcher hands on what its processes have got from the terminal already
_PARENT_DEATH_SIGNAL = 1  # prctl's PR_SET_PDEATHSIG, Linux


class Stopped(KeyboardInterrupt):
    """SIGINT or SIGTERM came; nothing should catch it but to clean up."""


class _State:
    """Of the command of this process."""

    number: int | None = None  # of the signal that came
    since = 0.0
    advice: Callable[[], str] = staticmethod(lambda: "")


@contextmanager
def stoppable() -> Iterator[None]:
    """Turn the signals into `Stopped` within the block; a second press ends the process at once.

    Forked helpers ignore Ctrl-C, which goes to them too: the main process ends them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner = os.getpid()

    def on_signal(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:
            if number == signal.SIGTERM:
                os._exit(128 + number)
        elif _State.number is None:
            _State.number, _State.since = number, time.monotonic()
            raise Stopped
        elif time.monotonic() - _State.since > _ONE_PRESS:
            os._exit(128 + number)

    _State.number, _State.advice = None, staticmethod(lambda: "give the same command again.")
    before = {number: signal.getsignal(number) for number in _NUMBERS}
    kept = [number for number in _NUMBERS if before[number] is not signal.SIG_IGN]  # a shell's background jobs
    for number in kept:
        signal.signal(number, on_signal)
    try:
        yield
    finally:
        for number in kept:  # a launcher may send it once more while Python ends
            signal.signal(number, before[number] if _State.number is None else signal.SIG_IGN)
        _State.number = None


def advise(sentence: Callable[[], str]) -> None:
    """Set what a command that is stopped from here on says of how to go on; it is asked at the stop."""
    _State.advice = staticmethod(sentence)


def exit_code() -> int | None:
    """What the stopped command ends with, as a shell shows it; None if no signal came."""
    return None if _State.number is None else 128 + _State.number


def last_words() -> str | None:
    """What the stopped command says; None in all processes of a launch but the first."""
    rank = next((os.environ[name] for name in _RANKS if name in os.environ), "0")
    by = "Ctrl-C" if _State.number == signal.SIGINT else "SIGTERM"
    return f"stopped by {by}: {_State.advice()}" if rank == "0" else None


def end_with_parent() -> None:
    """Under `accelerate launch`: get SIGTERM when that ends, or a job that was cancelled would go on unseen."""
    if sys.platform == "linux" and "ACCELERATE_MIXED_PRECISION" in os.environ:
        import ctypes

        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGTERM)
