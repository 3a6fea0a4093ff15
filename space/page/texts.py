"""Everything the page says, from one file per language in `texts/`. A new file there is a new language."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "texts"
FIRST = "en"


def languages() -> list[str]:
    """The codes of all languages (`en`, `de` ...), English first."""
    return sorted((path.stem for path in FOLDER.glob("*.json")), key=lambda code: (code != FIRST, code))


class Texts:
    """One language's texts.

    `texts("upload_hint", size=128)` fills in a text; `texts["limits"]` gives a list as it is; `label` names a class.
    """

    def __init__(self, language: str) -> None:
        self.language = language
        self._texts: dict[str, Any] = json.loads((FOLDER / f"{language}.json").read_text(encoding="utf-8"))

    def __call__(self, key: str, **values: object) -> str:
        """A text with its gaps filled in."""
        return str(self._texts[key]).format(**values)

    def __getitem__(self, key: str) -> Any:
        return self._texts[key]

    def label(self, label: str) -> str:
        """What people call a class; a class of another set keeps its own name."""
        return str(self._texts["labels"].get(label, label))

    def percent(self, share: float, digits: int = 1) -> str:
        """A share as a percentage, with the language's decimal mark; never rounded to certainty."""
        shown = f"{100 * share:.{digits}f}"
        if share < 1 and float(shown) == 100:
            shown = f"{100 - 10**-digits:.{digits}f}"
            return self.number(f"> {shown}%")
        if share > 0 and float(shown) == 0:
            return self.number(f"< {10**-digits:.{digits}f}%")
        return self.number(f"{shown}%")

    def number(self, text: str) -> str:
        """A number written with a point, with the language's decimal mark."""
        return text if self.language == FIRST else text.replace(".", ",").replace("%", "\u00a0%")

    def either(self, labels: Sequence[str]) -> str:
        """`glioma, meningioma or no tumour`, the first letter large."""
        names = [self.label(label) for label in labels]
        last = f" {self('or')} "
        text = last.join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
        return text[:1].upper() + text[1:]


@cache
def texts(language: str = FIRST) -> Texts:
    """The texts of a language, read once."""
    return Texts(language)
