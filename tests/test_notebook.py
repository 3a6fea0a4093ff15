"""The notebook is a valid one without outputs, and its cells run from the top, on phantoms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from brain_mri.inference.predictions import Prediction

_NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "brain_mri.ipynb"
nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")


def _code_cells() -> list[Any]:
    return [cell for cell in nbformat.read(_NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]


def test_it_is_valid_and_holds_no_picture_of_anybody() -> None:
    nbformat.validate(nbformat.read(_NOTEBOOK, as_version=4))
    assert all(not cell.outputs and cell.execution_count is None for cell in _code_cells())


def test_it_warns_before_anything_runs() -> None:
    assert "never diagnosis" in nbformat.read(_NOTEBOOK, as_version=4).cells[0].source


@pytest.mark.slow
def test_its_cells_run_from_the_top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    install, *others = _code_cells()
    assert install.metadata["tags"] == ["install"] and install.source.count("%") == 1
    names: dict[str, Any] = {}
    for cell in others:
        exec(compile(cell.source, _NOTEBOOK.name, "exec"), names)
    answer = names["answer"]
    assert (
        isinstance(answer, Prediction) and answer.verdict == "answer" and answer.label == names["picture"].parent.name
    )
    assert isinstance(answer.overlay(), Image.Image)
    assert (tmp_path / "outputs" / "model" / "evaluation" / "results.json").is_file()
