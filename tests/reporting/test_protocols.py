"""What pages say of the protocols: their order, and how slices are answered, as counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from brain_mri.metrics.safety import safety
from brain_mri.model_folder import read_records
from brain_mri.reporting.protocols import (
    Protocol,
    cleared_elsewhere,
    in_order,
    least_right_elsewhere,
    safety_counts,
)

_NAMES = ("glioma", "no_tumor")


def _external(name: str, answers: str) -> dict[str, Any]:
    """A record of slices: `G`liomas and `n`ormal ones, each followed by its answer: `g`, `n`, or `-` for none."""
    pairs = answers.split()
    labels = [_NAMES.index({"G": "glioma", "N": "no_tumor"}[pair[0]]) for pair in pairs]
    answered = np.array([pair[1] != "-" for pair in pairs])
    probabilities = np.array([[0.9, 0.1] if pair[1] == "g" else [0.1, 0.9] for pair in pairs])
    found = safety(probabilities, labels, _NAMES, np.ones(len(pairs), bool), answered)
    return {"data": {"name": name}, "scores": {}, "safety": found}


def test_patients_never_seen_come_first_and_the_famous_test_last() -> None:
    keys = ("test", "leak-free", "patient-wise", "external-a", "external-b")
    measured = [Protocol(key, key, {"name": key}, None if key == "patient-wise" else {}) for key in keys]
    assert [one.key for one in in_order(measured)] == [
        "patient-wise", "external-a", "external-b", "leak-free", "test",
    ]  # fmt: skip


def test_the_counts_of_a_protocol_add_up_to_its_slices() -> None:
    record = _external("a", "Gg Gg Gn G- G- G- Nn N- Ng Ng")
    found = safety_counts(Protocol("external-a", "a", {"name": "a"}, {}, record["safety"]))
    assert (found["tumors"], found["right"], found["other"], found["unanswered"], found["count"]) == (6, 2, 0, 3, 1)
    assert (found["healthy"], found["cleared"], found["healthy_unanswered"], found["alarms"]) == (4, 1, 1, 2)
    assert safety_counts(Protocol("test", "test", {"name": "a"}, {})) == {}


def test_of_other_sources_the_one_with_the_fewest_right_answers_is_told(tmp_path: Path) -> None:
    for name in ("config", "run"):
        (tmp_path / f"{name}.json").write_text("{}")
    assert least_right_elsewhere(read_records(tmp_path)) is None and cleared_elsewhere(read_records(tmp_path)) is None
    (tmp_path / "evaluation").mkdir()
    for name, answers in (("a", "Gg Gg Gn Nn"), ("b", "Gg G- G- Gn Nn")):
        record = tmp_path / "evaluation" / f"external_{name}.json"
        record.write_text(json.dumps(_external(name, answers)))
    assert least_right_elsewhere(read_records(tmp_path)) == 1 / 4
    assert cleared_elsewhere(read_records(tmp_path)) == {"wrong": 2, "said": 4}, "of all other sources together"
    for name in ("a", "b"):
        (tmp_path / "evaluation" / f"external_{name}.json").write_text(json.dumps(_external(name, "Gg Nn")))
    assert cleared_elsewhere(read_records(tmp_path)) is None, "that none was wrong would reassure"
