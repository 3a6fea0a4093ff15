"""Importing large libraries."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """Import torch and what needs it in this block: without the garbage collector it takes a quarter less time.

    The collector would go through all objects again and again and find nothing. It also ignores them later, as each
    collection would take half a second.
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
