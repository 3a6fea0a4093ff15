from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from brain_mri.errors import ConfigError, DataError
from brain_mri.evaluation.ensemble import gain, main, mean_of
from brain_mri.evaluation.prediction_table import PredictionTable
from brain_mri.labels import LABELS
from brain_mri.utils.files import read_json

_N = 60
_LABELS = np.arange(_N) % 4


def _model(strength: float, seed: int) -> PredictionTable:
    """One that finds the true class the better the stronger it is."""
    logits = np.random.default_rng(seed).normal(size=(_N, 4))
    logits[np.arange(_N), _LABELS] += strength
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    groups = tuple(f"p{i // 3}" if i % 2 else None for i in range(_N))
    return PredictionTable(tuple(f"test/{i}, a.png" for i in range(_N)), groups, _LABELS, probabilities, LABELS)


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    model = _model(1, 0)
    model.save(tmp_path / "evaluation" / "predictions.csv")
    again = PredictionTable.load(tmp_path / "evaluation" / "predictions.csv")
    assert (again.file_names, again.groups, again.label_names) == (model.file_names, model.groups, model.label_names)
    assert (again.labels == model.labels).all()
    np.testing.assert_allclose(again.probabilities, model.probabilities, rtol=1e-8)


def test_the_mean_of_weak_and_independent_models_beats_one_of_them_and_a_copy_adds_nothing() -> None:
    members = [_model(1.0, seed) for seed in range(12)]
    more = gain(mean_of(members), members[0])
    assert more["low"] > 0 and more["value"] == pytest.approx(
        mean_of(members).correct.mean() - members[0].correct.mean()
    )
    assert gain(mean_of([members[0], members[0]]), members[0]) == {"value": 0, "low": 0, "high": 0}


def test_models_judged_on_different_images_are_not_mixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = _model(1, 0), _model(2, 1)
    one.save(tmp_path / "one" / "evaluation" / "predictions.csv")
    with pytest.raises(ConfigError, match="different images"):
        mean_of([one, PredictionTable(other.file_names[::-1], other.groups, other.labels, other.probabilities, LABELS)])
    with pytest.raises(ConfigError, match="two folders"):
        main([str(tmp_path / "one")])
    with pytest.raises(ConfigError, match="same name"):
        main([str(tmp_path / "one"), str(tmp_path / "again" / "one")])
    with pytest.raises(DataError, match=r"run evaluate_model\.py"):
        main([str(tmp_path / "one"), str(tmp_path / "other")])
    other.save(tmp_path / "other" / "evaluation" / "predictions.csv")
    main([str(tmp_path / "one"), str(tmp_path / "other"), "--json", str(tmp_path / "found.json")])
    assert list(read_json(tmp_path / "found.json")["models"]) == ["one", "other", "mean"]
    printed = capsys.readouterr().out
    assert "| one |" in printed and "| mean |" in printed and f"on {_N} images" in printed
