"""What goes wrong because of what the user gave: one sentence that names it and says how to mend it."""

from __future__ import annotations

import sys
from collections.abc import Callable

USER_ERROR_EXIT_CODE = 2


class BrainMRIError(Exception):
    """A mistake in the input, not in the program; its message is all that the user needs to see."""


class ConfigError(BrainMRIError):
    """An option that is unknown, impossible here, or contradicts another."""


class DataError(BrainMRIError):
    """A folder or dataset that can't be trained or evaluated on."""


class ImageError(BrainMRIError):
    """A file that can't be read as a picture."""


def run_command(main: Callable[[], None]) -> None:
    """Run a command's `main`; a `BrainMRIError` becomes its message on stderr and exit code 2, without a traceback."""
    try:
        main()
    except BrainMRIError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(USER_ERROR_EXIT_CODE)
