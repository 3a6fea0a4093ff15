from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from brain_mri.labels import LABELS
from brain_mri.metrics.safety import format_safety, safety

_TUMOR, _OTHER, _CLEAR = 0, 1, 2  # glioma, meningioma, no_tumor


def _of(said: list[int], true: list[int], **changes: Any) -> dict[str, Any]:
    """`safety` of images whose most probable class is `said`; all are answered unless a mask says otherwise."""
    probabilities = np.full((len(said), 4), 0.1)
    probabilities[np.arange(len(said)), said] = 0.7
    everything = np.ones(len(said), bool)
    given = {"accepted": everything, "answered": everything, "groups": None} | changes
    return safety(probabilities, true, LABELS, **given)


def test_counts_are_those_of_hand() -> None:
    true = [_TUMOR] * 6 + [_CLEAR] * 4
    said = [_CLEAR, _CLEAR, _CLEAR, _TUMOR, _OTHER, _OTHER, _CLEAR, _CLEAR, _TUMOR, _TUMOR]
    accepted = np.array([0, 1, 1, 1, 1, 1, 1, 0, 1, 1], bool)
    answered = np.array([0, 0, 1, 1, 1, 0, 1, 0, 1, 0], bool)
    found = _of(said, true, accepted=accepted, answered=answered)
    counts = {name: (f["count"], f["n"]) for name, f in found.items() if isinstance(f, dict)}
    assert counts == {
        "false_all_clear": (1, 6),
        "false_all_clear_of_answered": (1, 3),
        "tumors_answered": (3, 6),
        "tumors_named": (2, 6),
        "tumors_right": (1, 6),
        "unanswered": (5, 10),
        "false_alarm": (1, 4),
    }
    assert (found["unanswered"]["refused"], found["unanswered"]["unsure"]) == (2, 3)
    assert found["false_all_clear"]["value"] == pytest.approx(1 / 6) and found["tumors"] == 6


def test_only_what_is_said_counts() -> None:
    true, said = [_TUMOR] * 8, [_CLEAR] * 8
    nothing = np.zeros(8, bool)
    assert _of(said, true)["false_all_clear"]["value"] == 1
    unsure = _of(said, true, answered=nothing)
    refused = _of(said, true, accepted=nothing, answered=nothing)
    assert unsure["false_all_clear"]["count"] == refused["false_all_clear"]["count"] == 0
    assert "false_all_clear_of_answered" not in unsure, "a share of nothing does not exist"
    assert (unsure["unanswered"]["unsure"], refused["unanswered"]["refused"]) == (8, 8)


def test_the_interval_is_by_patient() -> None:
    rng = np.random.default_rng(0)
    missed = rng.random(40) < 0.3  # whole patients are missed or found
    said = np.repeat(np.where(missed, _CLEAR, _TUMOR), 10).tolist()
    patients = [f"p{i // 10}" for i in range(400)]
    by_slice, by_patient = (_of(said, [_TUMOR] * 400, groups=g)["false_all_clear"] for g in (None, patients))
    assert by_slice["value"] == by_patient["value"] == missed.mean()
    assert by_patient["high"] - by_patient["low"] > 2.5 * (by_slice["high"] - by_slice["low"])
    assert _of(said, [_TUMOR] * 400, groups=patients)["n_groups"] == 40


def test_none_seen_in_few_patients_does_not_promise_none() -> None:
    patients = [f"p{i // 10}" for i in range(200)]
    figure = _of([_TUMOR] * 200, [_TUMOR] * 200, groups=patients)["false_all_clear"]
    assert (figure["value"], figure["low"]) == (0, 0)
    assert figure["high"] == pytest.approx(0.1684, abs=1e-4), "20 patients: 1 - 0.025 ** (1 / 20)"
    named = _of([_TUMOR] * 200, [_TUMOR] * 200, groups=patients)["tumors_named"]
    assert (named["low"], named["high"]) == (pytest.approx(0.8316, abs=1e-4), 1)


def test_two_of_the_four_classes_suffice_and_without_tumour_or_healthy_class_there_is_no_figure() -> None:
    assert "false_alarm" not in _of([_TUMOR, _CLEAR], [_TUMOR, _TUMOR])
    assert _of([_TUMOR, _CLEAR], [_CLEAR, _CLEAR]) == {}
    mask = np.ones(2, bool)
    assert safety(np.eye(2), [0, 1], ["grade 2", "grade 3"], mask, mask) == {}
    assert safety(np.eye(2), [0, 1], ["no", "yes"], mask, mask)["tumors"] == 1
    assert "not measured" in format_safety({})


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(ValueError, match="refuses can't be answered"):
        _of([_TUMOR, _CLEAR], [_TUMOR, _TUMOR], accepted=np.array([True, False]))
    with pytest.raises(ValueError, match="as many booleans"):
        _of([_TUMOR, _CLEAR], [_TUMOR, _TUMOR], answered=np.array([1, 0]))
    with pytest.raises(ValueError, match="as many names"):
        safety(np.eye(3), [0, 1, 2], LABELS, np.ones(3, bool), np.ones(3, bool))


def test_the_console_says_the_rate_first() -> None:
    text = format_safety(_of([_CLEAR, _TUMOR, _OTHER, _CLEAR], [_TUMOR, _TUMOR, _TUMOR, _CLEAR]))
    assert "1 of 3 (33.3%" in text.splitlines()[0]
    assert "2 of 3 (66.7%" in text and "1 with the right one; 0 not answered" in text
