from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from safetensors.torch import save_file
from support.card_records import run_record
from support.doors import run_train

from brain_mri.arguments import DataArguments, ModelArguments
from brain_mri.model_folder import CALIBRATION
from brain_mri.training.lineage import carry_over, earlier_stages, origins
from brain_mri.utils.files import sha256


def test_published_weights_and_strangers_folders_have_no_earlier_stage(tmp_path: Path) -> None:
    assert earlier_stages("timm/resnet50.a1_in1k") == [] and earlier_stages(str(tmp_path)) == []
    carry_over(str(tmp_path), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_last_stage_on_all_of_training_keeps_what_the_first_one_fitted(
    guided_model: Path, phantoms: Path, tmp_path: Path
) -> None:
    last = tmp_path / "last"
    words = ["configs/efficientnet_final.yaml", "--data_dir", str(phantoms), "--model", str(guided_model)]
    words += ["--output_dir", str(last), "--image_size", "96", "--torch_compile", "false", "--max_steps", "2"]
    words += ["--per_device_train_batch_size", "8"]
    run_train(*words)
    first, run = (json.loads((folder / "run.json").read_text()) for folder in (guided_model, last))
    assert [stage["finished"] for stage in run["stages"]] == [first["finished"]]
    assert run["stages"][0]["images"] == sum(first["splits"]["train"].values())
    for name in ("calibration.json", "evidence.json"):
        kept, earlier = (json.loads((folder / name).read_text()) for folder in (last, guided_model))
        assert kept.pop("earlier_stage") is True
        levels = [record.pop("levels", {}) for record in (kept, earlier)]
        assert set(levels[0]) == set(levels[1]), "of the contour: chosen anew, as they belong to these weights"
        assert kept == earlier
    assert [stage["steps"] for stage in earlier_stages(str(last))] == [first["global_step"], 2]
    assert "Stage 1 of 2" in (last / "README.md").read_text()


def test_a_threshold_chosen_for_other_weights_is_kept_and_marked_as_theirs(tmp_path: Path) -> None:
    all_clear = {"threshold": 0.99, "rate": 0.01, "sources": []}
    sides = {"symmetry": {"threshold": 0.8, "asymmetry": 0.4}}  # a lower probability, which other weights must not have
    before = {"temperature": 1.0, "all_clear": all_clear | sides}
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / CALIBRATION).write_text(json.dumps(before))
    carry_over(str(tmp_path / "first"), tmp_path / "last")
    kept = json.loads((tmp_path / "last" / CALIBRATION).read_text())
    assert kept["all_clear"] == all_clear | {"earlier_stage": True} and kept["earlier_stage"]
    assert json.loads((tmp_path / "first" / CALIBRATION).read_text()) == before


_DATA = DataArguments(data_dir="anywhere")
_PRINT = run_record()["data_fingerprint"]


def _rows(*names: str) -> Dataset:
    return Dataset.from_dict({"file_name": names, "digest": names, "label": [0] * len(names)})


_SPLITS = {"train": _rows("a", "b"), "validation": _rows("c"), "test": _rows("d")}
_OURS = origins(ModelArguments(), None, _DATA, _SPLITS, _PRINT)["split_fingerprints"]


def _trained(folder: Path, **changes: Any) -> str:
    """A model folder with a record of its training."""
    folder.mkdir()
    save_file({"weight": torch.zeros(1)}, folder / "model.safetensors")
    (folder / "run.json").write_text(json.dumps(run_record() | changes))
    return str(folder)


@pytest.mark.parametrize(
    ("changes", "fingerprint", "saw"),
    [
        ({"split_fingerprints": _OURS}, _PRINT, "nothing"),
        ({"split_fingerprints": _OURS | {"train": "with the validation images"}}, _PRINT, "validation"),
        ({"split_fingerprints": {"train": "of", "test": "another seed"}}, _PRINT, "held out"),
        ({"split_fingerprints": _OURS}, "another folder's", "unknown"),
        ({}, _PRINT, "validation"),  # before splits had fingerprints: the options, and the less favourable case
        ({"data": vars(DataArguments(split_seed=7))}, _PRINT, "held out"),
    ],
)
def test_what_a_teacher_saw_of_the_held_out_images_is_said(
    changes: dict[str, Any], fingerprint: str, saw: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    teacher = _trained(tmp_path / "teacher", **changes)
    found = origins(ModelArguments(), teacher, _DATA, _SPLITS, fingerprint)["teacher"]
    assert found["saw"] == saw and found["sha256"] == sha256(tmp_path / "teacher" / "model.safetensors")
    assert ("the teacher" in caplog.text) == (saw != "nothing")
    assert [stage["steps"] for stage in found["stages"]] == [66], "the teacher's own training counts"


def test_what_the_teacher_of_a_teacher_saw_counts_too(tmp_path: Path) -> None:
    first = _trained(tmp_path / "first", split_fingerprints=_OURS | {"train": "with the validation images"})
    taught = origins(ModelArguments(), first, _DATA, _SPLITS, _PRINT)["teacher"]
    second = _trained(tmp_path / "second", split_fingerprints=_OURS, teacher=taught)
    assert origins(ModelArguments(), second, _DATA, _SPLITS, _PRINT)["teacher"]["saw"] == "validation"
    assert origins(ModelArguments(model=second), None, _DATA, _SPLITS, _PRINT)["stages"][0]["teacher"] == taught


def test_a_stage_keeps_its_log_for_the_curves_of_all_stages(tmp_path: Path) -> None:
    first = _trained(tmp_path / "first", log_history=[{"loss": 1.0, "epoch": 6.0}])
    stages = origins(ModelArguments(model=first), None, _DATA, _SPLITS, _PRINT)["stages"]
    second = _trained(tmp_path / "second", log_history=[{"loss": 0.5, "epoch": 2.0}], stages=stages)
    found = origins(ModelArguments(model=second), None, _DATA, _SPLITS, _PRINT)["stages"]
    assert [stage["log_history"][0]["loss"] for stage in found] == [1.0, 0.5]


def test_a_file_of_weights_is_known_by_its_checksum(tmp_path: Path) -> None:
    file = Path(_trained(tmp_path / "model")) / "model.safetensors"
    found = origins(ModelArguments(weights=str(file)), None, _DATA, _SPLITS, _PRINT)
    assert found["weights"] == {"file": str(file), "sha256": sha256(file)} and found["teacher"] is None
