"""Importing large libraries."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """Around the first import of torch and what needs it: a quarter faster without the garbage collector.

    It goes through all objects again and again as their number grows, and finds nothing: what is imported stays. So it
    stays out of that for good, or each later collection would take half a second.
    """
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
