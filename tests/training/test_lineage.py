from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.doors import run_train

from brain_mri.model_folder import CALIBRATION
from brain_mri.training.lineage import carry_over, earlier_stages


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
    before = {"temperature": 1.0, "all_clear": {"threshold": 0.99, "rate": 0.01, "sources": []}}
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / CALIBRATION).write_text(json.dumps(before))
    carry_over(str(tmp_path / "first"), tmp_path / "last")
    kept = json.loads((tmp_path / "last" / CALIBRATION).read_text())
    assert kept["all_clear"] == before["all_clear"] | {"earlier_stage": True} and kept["earlier_stage"]
    assert json.loads((tmp_path / "first" / CALIBRATION).read_text()) == before
