"""Markdown from the templates of this package."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import fields
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined, Template

from brain_mri.metrics.interval import show
from brain_mri.model_folder import ModelRecords


def render(template: str, records: ModelRecords, **values: Any) -> str:
    """Fill `templates/<template>` with a model's records, by their names, and with `values`, which come first.

    Raises:
        UndefinedError: the template uses another name; `ModelCard.from_template` would leave a gap.
    """
    known = {field.name: getattr(records, field.name) for field in fields(records)}
    return re.sub(r"\n{3,}", "\n\n", _compiled(template).render(known | values)).strip() + "\n"


@cache
def _compiled(template: str) -> Template:
    environment = Environment(trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    environment.filters |= {"code": _code, "text": _text, "up": _up, "down": _down}
    environment.filters |= {"figure": show, "percent": _percent, "number": "{:,}".format, "time": _time}
    return environment.from_string(files("brain_mri.reporting").joinpath(f"templates/{template}").read_text("utf-8"))


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as a Markdown table; the second row holds the columns' sides, `---` or `---:`."""
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _code(text: object) -> str:
    """As code; a name that could end the code or the cell of a table is written in entities."""
    name = str(text)
    if not re.search(r"[`|\n\r]", name) and name.strip() == name != "":
        return f"`{name}`"
    return f"<code>{''.join(c if c.isalnum() or c == ' ' else f'&#{ord(c)};' for c in name)}</code>"


def _text(text: object) -> str:
    """As plain text, whatever it would mean to Markdown."""
    return re.sub(r"([\\`*_{}\[\]<>|&#~])", r"\\\1", " ".join(str(text).split()))


def _up(threshold: float) -> str:
    """With four digits, and never lower than it is: what is below it is not answered."""
    return f"{math.ceil(threshold * 10_000) / 10_000:.4f}"


def _down(threshold: float) -> str:
    """With four digits, and never higher than it is: what reaches it is in the set."""
    return f"{math.floor(threshold * 10_000) / 10_000:.4f}"


def _percent(share: float, digits: int = 1) -> str:
    return f"{share:.{digits}%}"


def _time(seconds: float) -> str:
    minutes = round(seconds / 60)
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{minutes} minutes" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02} min"
