from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from brain_mri.errors import ConfigError, DataError
from brain_mri.inference.classifier import BrainMRIClassifier
from brain_mri.model_folder import GUARD, RUN
from brain_mri.training.refit_guard import main


def test_a_guard_that_was_lost_is_fitted_again_as_it_was(model: Path, guided_model: Path, phantoms: Path) -> None:
    (model / GUARD).unlink()
    assert BrainMRIClassifier.from_pretrained(model).rule.missing == "no_guard"
    main([str(model), "--data_dir", str(phantoms)])
    assert (model / GUARD).read_text() == (guided_model / GUARD).read_text()


def test_images_that_the_model_was_not_trained_on_are_refused_and_the_guard_stays(
    model: Path, phantoms: Path, tmp_path: Path
) -> None:
    before = (model / GUARD).read_bytes()
    other = Path(shutil.copytree(phantoms, tmp_path / "other"))
    picture = next((other / "train").glob("glioma/*.png"))
    shutil.copyfile(picture, picture.with_stem("copy"))
    with pytest.raises(DataError, match="other images"):
        main([str(model), "--data_dir", str(other)])
    (model / RUN).unlink()
    with pytest.raises(ConfigError, match="no finished model"):
        main([str(model), "--data_dir", str(phantoms)])
    assert (model / GUARD).read_bytes() == before
