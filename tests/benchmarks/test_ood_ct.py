from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.ood.ct import main


def _tomogram(path: Path) -> None:
    radius = np.hypot(*np.mgrid[-1:1:128j, -1:1:128j])
    Image.fromarray(np.select([radius < 0.7, radius < 0.85], [90, 255], 0).astype(np.uint8)).save(path)


def test_ct_are_counted_apart_and_those_that_nobody_listed_are_named(
    guided_model: Path,
    phantoms: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(phantoms / "test", folder)
    _tomogram(folder / "no_tumor" / "listed.png")
    _tomogram(folder / "meningioma" / "unlisted.png")
    (folder / "review.csv").write_text("file_name,finding\nno_tumor/listed.png,ct\n")
    monkeypatch.setattr(sys, "argv", ["ct", str(guided_model), "--data_dir", str(folder)])
    main()
    said = capsys.readouterr().out
    counts = {line[:24].strip(): line[24:].split() for line in said.splitlines()[1:] if line[24:]}
    assert counts["head CT"] == ["1", "1", "1"]
    assert counts["meningioma"][:2] == ["7", "1"] and counts["glioma"][:2] == ["6", "0"]
    assert said.splitlines()[-1].endswith(": meningioma/unlisted.png")
