"""Errors that users can mend themselves: one sentence says what is wrong and what to do."""

from __future__ import annotations

import errno
import io
import os
import re
import select
import sys
from collections.abc import Callable
from typing import Literal

from brain_mri import stopping

USER_ERROR_EXIT_CODE = 2
LOST_PROCESS_EXIT_CODE = 1
CUT_OFF_EXIT_CODE = 141  # what a shell shows of a command that SIGPIPE ended
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_OF_A_PATH = (  # what the user named can't be made, read or written
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP
)  # fmt: skip
_LONGEST = 200  # letters of a path that a message shows

_LOST_PROCESS = (
    "another process of this run is gone or can't be reached ({reason}): the output of that process, or its machine, "
    "says why. Once it is mended, give every machine its command again with --resume_from_checkpoint."
)


ImageFault = Literal[
    "broken", "too_large", "no_scan", "incomplete", "encrypted", "variant", "no_file", "no_series", "too_many"
]
"""Damaged or unknown; beyond a limit; no slice in it; half of a pair; locked; to be converted; not given; not there;
beyond a limit together with others."""


class BrainMRIError(Exception):
    """A mistake in the input, not in the program; its message is all that the user needs to see."""


class ConfigError(BrainMRIError):
    """An option that is unknown, impossible here, or contradicts another."""


class LackingError(ConfigError):
    """An option for something that the chosen network does not have."""


class DataError(BrainMRIError):
    """A folder or dataset that can't be trained or evaluated on."""


class DivergedError(BrainMRIError, ValueError):
    """A network whose outputs are no numbers."""


class ImageError(BrainMRIError):
    """A file that can't be read as a picture.

    Attributes:
        fault: what kind of mistake it is, for a door that says it in another language.
    """

    def __init__(self, message: str = "", fault: ImageFault = "broken") -> None:
        super().__init__(message)
        self.fault = fault


class NotMRIError(ImageError):
    """A file whose header says that it is no MRI of a head."""


def run_command(main: Callable[[], None]) -> None:
    """Run a command's `main`; a `BrainMRIError` becomes its message on stderr and exit code 2, without a traceback.

    So does a full disk, a path that can't be read or written, and, with exit code 1, the loss of another process of the
    same run, whose output has the cause. When nobody reads its output any more (`... | head`), a command ends silently.
    Ctrl-C and SIGTERM end it with one sentence and 128 plus the signal's number.
    """
    for stream in (sys.stdout, sys.stderr):  # a file may be called anything, and a console may know ASCII alone
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    with stopping.stoppable():
        try:
            _run(main)
        except BaseException:
            if (code := stopping.exit_code()) is None:
                raise
            if words := stopping.last_words():  # whatever else went wrong meanwhile is the stop's doing
                print(f"\n{words}", file=sys.stderr)
            sys.exit(code)


def _run(main: Callable[[], None]) -> None:
    try:
        main()
        sys.stdout.flush()
    except BrokenPipeError:
        if not _output_is_cut_off():
            raise
        sys.exit(CUT_OFF_EXIT_CODE)
    except BrainMRIError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(USER_ERROR_EXIT_CODE)
    except RuntimeError as error:
        if not _of_a_lost_process(error):
            raise
        print(f"error: {_LOST_PROCESS.format(reason=_reason(error))}", file=sys.stderr)
        sys.exit(LOST_PROCESS_EXIT_CODE)
    except Exception as error:
        if (sentence := _about_a_file(error)) is None:
            raise
        print(f"error: {sentence}", file=sys.stderr)
        sys.exit(USER_ERROR_EXIT_CODE)


def _about_a_file(error: Exception) -> str | None:
    """What to say of an error that the disk or a path is the cause of; None for any other."""
    name = getattr(error, "filename", None)
    if getattr(error, "errno", None) in DISK_FULL or "No space left" in str(error):  # safetensors' words
        return f"the disk is full{f' at {name}' if name else ''}: make room, then give the command again."
    if isinstance(error, OSError) and error.errno in _OF_A_PATH and name:
        shown = str(name) if len(str(name)) <= _LONGEST else f"{str(name)[:_LONGEST]}..."
        return f"{shown}: {error.strerror}; name another file or folder, or change what stands in the way."
    return None


def _output_is_cut_off() -> bool:
    """Whether the reader of stdout's pipe is gone; if so, further output is discarded."""
    watched = select.poll()
    watched.register(sys.stdout.fileno(), 0)  # errors alone
    if not watched.poll(0):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would complain once more as it ends
    return True


def _of_a_lost_process(error: RuntimeError) -> bool:
    """Whether torch can't reach another process; by class names, because commands without torch come here too."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return "DistError" in kinds or "/gloo/" in str(error)  # gloo's are plain RuntimeErrors that name its source file


def _reason(error: RuntimeError) -> str:
    """The first sentence of torch's message, without the leading place in torch's source."""
    return re.sub(r"^\[[^]]*\]\s*", "", str(error).strip()).splitlines()[0].split(". ")[0][:200].rstrip(".")
