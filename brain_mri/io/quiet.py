"""Keeping parsers quiet: their warnings quote what they read, and a header may name a patient. No torch."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_LOGGERS = ("pydicom", "nibabel.global", "pylibjpeg")
_here = threading.local()


class _WhileReading(logging.Filter):
    """Matches every warning, and drops every log record, of a thread that is inside `quiet`, and of no other.

    `warnings.catch_warnings` changes the filters of all threads at once, so that two readings at a time could leave
    them changed for good.
    """

    def match(self, text: str) -> bool:
        """What `warnings` asks of the pattern of a filter."""
        return getattr(_here, "depth", 0) > 0

    def filter(self, record: logging.LogRecord) -> bool:
        """What `logging` asks of a filter: whether the record is kept."""
        return not self.match("")


_WHILE_READING = _WhileReading()
_FILTER: Any = ("ignore", _WHILE_READING, Warning, None, 0)
_lock = threading.Lock()
_readers = 0


@contextmanager
def quiet() -> Iterator[None]:
    """Drop the warnings and log records of parsers in this thread; other threads and other warnings are as before."""
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _readers
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_WHILE_READING)  # does nothing where it is there already
    filters: Any = warnings.filters
    with _lock:
        _readers += 1
        if not filters or filters[0] is not _FILTER:  # first, whatever others have put there since
            if _FILTER in filters:
                filters.remove(_FILTER)
            filters.insert(0, _FILTER)
    _here.depth = getattr(_here, "depth", 0) + 1


def _leave() -> None:
    global _readers
    _here.depth -= 1
    filters: Any = warnings.filters
    with _lock:
        _readers -= 1
        if not _readers and _FILTER in filters:
            filters.remove(_FILTER)
