"""Python imports this first wherever this folder is on PYTHONPATH: then whatever unpickles ends the process.

`pickle.load`, `loads` and `Unpickler` are replaced before any library takes them, and since that could be gone round,
an audit hook refuses every class or function that any unpickler, C's own included, looks up by name. torch's unpickler
for `weights_only` is another one, which builds tensors and nothing else; only what it is given to read is not refused.
"""

from __future__ import annotations

import os
import pickle
import sys
import traceback
from typing import Any, NoReturn

# Who may unpickle, by module and function: what processes of one pool send each other (datasets reads more than 500
# pictures in several processes, through the package multiprocess). It comes through pipes that these processes opened.
ALLOWED = {("multiprocess.connection", "recv"), ("multiprocess.queues", "get")}

_unpicklers = (pickle.Unpickler, pickle._Unpickler)
_load, _loads = pickle.load, pickle.loads


def _is_allowed() -> bool:
    frame = sys._getframe(2)
    while frame is not None:
        if (frame.f_globals.get("__name__", ""), frame.f_code.co_name) in ALLOWED:
            return True
        frame = frame.f_back
    return False


def _refuse(what: str) -> NoReturn:
    """End the process: an exception could be caught by whoever unpickles."""
    sys.stderr.write(f"UNPICKLED by {what}\n{''.join(traceback.format_stack(limit=14)[:-2])}")
    sys.stderr.flush()
    os._exit(86)


def _guarded(unpickler: type) -> type:
    class Unpickler(unpickler):  # type: ignore[misc]
        def load(self) -> Any:
            if not _is_allowed():
                _refuse("Unpickler.load")
            return super().load()

    return Unpickler


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "pickle.find_class" and not _is_allowed():
        _refuse(f"pickle.find_class{arguments}")


def load(*arguments: Any, **options: Any) -> Any:
    """`pickle.load`, for those who may."""
    if not _is_allowed():
        _refuse("pickle.load")
    return _load(*arguments, **options)


def loads(*arguments: Any, **options: Any) -> Any:
    """`pickle.loads`, for those who may."""
    if not _is_allowed():
        _refuse("pickle.loads")
    return _loads(*arguments, **options)


pickle.load, pickle.loads = load, loads
pickle.Unpickler, pickle._Unpickler = map(_guarded, _unpicklers)
sys.addaudithook(_hook)
