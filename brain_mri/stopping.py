"""Ctrl-C and SIGTERM end a command with one sentence that says how to go on. No torch."""

from __future__ import annotations

import _thread
import logging  # noqa: F401 -- what it does around a fork lies within what is registered below
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

_NUMBERS = (signal.SIGINT, signal.SIGTERM)
_RANKS = ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "MV2_COMM_WORLD_RANK")  # as accelerate reads them
_ONE_PRESS = 1.0  # seconds: a launcher hands on what its processes have got from the terminal already
_PARENT_DEATH_SIGNAL = 1  # prctl's PR_SET_PDEATHSIG, Linux
_A_MOMENT = 0.02  # seconds


class Stopped(KeyboardInterrupt):
    """SIGINT or SIGTERM came; nothing should catch it but to clean up."""


class _State:
    """Of the command of this process."""

    number: int | None = None  # of the signal that came
    since = 0.0
    comes_again = False  # Python dropped what it raised
    forks = False
    advice: Callable[[], str] = staticmethod(lambda: "")


def _set_forks(forks: bool) -> None:
    _State.forks = forks


if sys.platform != "win32":
    os.register_at_fork(  # the locks that are taken and given back around a fork must not be left half done
        before=partial(_set_forks, True),
        after_in_parent=partial(_set_forks, False),
        after_in_child=partial(_set_forks, False),
    )


@contextmanager
def stoppable() -> Iterator[None]:
    """Turn the signals into `Stopped` within the block; a second press ends the process at once.

    Forked helpers ignore Ctrl-C, which goes to them too: the main process ends them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _State.number, _State.comes_again, _State.advice = None, False, staticmethod(lambda: "give the same command again.")
    before = {number: signal.getsignal(number) for number in _NUMBERS}
    kept = [number for number in _NUMBERS if before[number] is not signal.SIG_IGN]  # a shell's background jobs
    for number in kept:
        signal.signal(number, partial(_on_signal, os.getpid()))
    hooks = sys.unraisablehook, sys.excepthook
    sys.unraisablehook, sys.excepthook = partial(_on_lost, hooks[0]), partial(_on_uncaught, os.getpid(), hooks[1])
    try:
        yield
    finally:
        stopped = _State.number is not None
        for number in kept:  # a launcher may send it once more while Python ends
            signal.signal(number, signal.SIG_IGN if stopped else before[number])
        sys.unraisablehook, sys.excepthook = _say_nothing if stopped else hooks[0], hooks[1]
        _State.number = None


def _on_signal(owner: int, number: int, frame: FrameType | None) -> None:
    if os.getpid() != owner:
        if number == signal.SIGTERM:
            os._exit(128 + number)
    elif _State.number is None or _State.comes_again:
        if _State.number is None:
            _State.number, _State.since = number, time.monotonic()
        _State.comes_again = False
        if not _State.forks:
            raise Stopped
        _send_again()
    elif time.monotonic() - _State.since > _ONE_PRESS:
        os._exit(128 + number)


def _send_again() -> None:
    """Send the signal to this process once more, in a moment. Takes no lock: the code that was stopped may hold it."""

    def send() -> None:
        time.sleep(_A_MOMENT)
        if _State.number is not None:
            os.kill(os.getpid(), _State.number)

    _State.comes_again = True
    _thread.start_new_thread(send, ())


def _on_lost(before: Callable[[Any], object], lost: Any) -> None:
    """Of what Python dropped, as where an object is deleted: raise `Stopped` again, say nothing else during a stop."""
    if isinstance(lost.exc_value, Stopped):
        _send_again()
    elif _State.number is None:
        before(lost)


def _say_nothing(lost: Any) -> None:
    """Of objects that were only half made when the command was stopped, and are deleted as Python ends."""


def _on_uncaught(owner: int, before: Callable[..., object], kind: type, error: BaseException, trace: Any) -> None:
    """In a helper that was talking to the main process when that ended: say nothing, it has said it."""
    if os.getpid() == owner or not isinstance(error, (EOFError, ConnectionError)):
        before(kind, error, trace)


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
