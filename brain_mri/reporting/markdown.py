"""Markdown from the templates of this package."""

from __future__ import annotations

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
    environment.filters |= {"code": _code, "figure": show, "percent": _percent, "number": "{:,}".format, "time": _time}
    return environment.from_string(files("brain_mri.reporting").joinpath(f"templates/{template}").read_text("utf-8"))


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as a Markdown table; the second row holds the columns' sides, `---` or `---:`."""
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _code(text: object) -> str:
    return "`" + str(text).replace("|", "\\|") + "`"


def _percent(share: float, digits: int = 1) -> str:
    return f"{share:.{digits}%}"


def _time(seconds: float) -> str:
    minutes = round(seconds / 60)
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{minutes} minutes" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02} min"
