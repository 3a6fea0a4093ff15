"""What the documentation names is there: files, headings, modules, recipes. Its sentences are not compared."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[1]
_PAGES = sorted([*_ROOT.glob("*.md"), *_ROOT.glob("docs/*.md"), *_ROOT.glob("configs/*.md")])
_each_page = pytest.mark.parametrize("page", _PAGES, ids=lambda path: str(path.relative_to(_ROOT)))


def _text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def _anchors(page: Path) -> set[str]:
    """The names that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", _text(page), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@_each_page
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", _text(page)):
        if target.startswith(("http:", "https:")):
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name) if name else page
        assert there.exists(), f"{target} is not there"
        assert not anchor or anchor in _anchors(there), f"{target}: no such heading"


@_each_page
def test_modules_and_scripts_that_are_named_exist(page: Path) -> None:
    text = _text(page)
    for module in re.findall(r"python -m\s+((?:brain_mri|benchmarks)[\w.]*)", text):
        assert find_spec(module.rstrip(".")), module
    named = re.findall(r"(?<![\w/.>])((?:configs|docs|benchmarks|brain_mri|tests|space)/[\w/.-]+\.\w+)", text)
    for path in named:
        assert (_ROOT / path).exists(), path


def test_every_recipe_is_listed() -> None:
    listed = set(re.findall(r"^\| `(\w+)` \|", _text(_ROOT / "configs" / "README.md"), re.MULTILINE))
    assert listed == {path.stem for path in (_ROOT / "configs").glob("*.yaml")}


def test_every_page_is_linked_from_another() -> None:
    for page in (_ROOT / "docs").glob("*.md"):
        assert any(page.name in _text(other) for other in _PAGES if other != page), page.name


def test_the_first_page_is_short_and_warns_before_anything_runs() -> None:
    text = _text(_ROOT / "README.md")
    assert text.count("\n") <= 140
    assert text.index("never diagnosis") < text.index("```")
