"""What the page offers to try: the pictures in `examples/`, and what they show."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from page import pictures
from page.texts import Texts

_FOLDER = Path(__file__).resolve().parents[1] / "examples"
_TRUTH = "cases.json"  # of each picture that the quiz asks: its class, and the tumour's box

Files = list[tuple[str, str]]


@dataclass
class Offered:
    """Examples as (name, data URI).

    Attributes:
        examples: pictures.
        truth: `{name: class}` of those whose class is known.
        volumes: zips of slices.
        real: whether they are those of a clone, mostly real slices.
    """

    examples: Files
    truth: dict[str, str]
    volumes: Files
    real: bool


def offered() -> Offered:
    """What `examples/` holds."""
    shown = [(p.name, _uri(p, f"image/{p.suffix[1:]}")) for p in _those(".png", ".jpg")]
    volumes = [(p.name, _uri(p, "application/zip")) for p in _those(".zip")]
    truth = {one["file_name"]: one["label"] for one in _truth()}
    return Offered(shown, truth, volumes, bool(truth))


def cases(t: Texts) -> list[dict[str, Any]]:
    """The pictures of the quiz: `file` (data URI), `file_name`, `label`, its `name` for people, and `box` or None."""
    return [
        one | {"file": _uri(_FOLDER / one["file_name"], "image/png"), "name": t.label(one["label"])} for one in _truth()
    ]


def _truth() -> list[dict[str, Any]]:
    path = _FOLDER / _TRUTH
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    return found


def _those(*suffixes: str) -> list[Path]:
    return sorted(path for path in _FOLDER.glob("*") if path.suffix in suffixes)


def _uri(path: Path, kind: str) -> str:
    return pictures.data_uri(path.read_bytes(), kind)
