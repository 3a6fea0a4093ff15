"""What a training shows: one bar for each phase, and the next command ready to copy."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from support.doors import QUICK, run_door, run_train

from brain_mri.evaluation.__main__ import main as evaluation

_BAR = re.compile(r"(?:^|\r|\n) *([A-Z][\w ,.]*: +)?\d+%\|[^|]*\| \d+/(\d+) \[")


@pytest.fixture(scope="module")
def said(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("console")
    data = folder / "my scans"
    shutil.copytree(phantoms, data)
    # said aloud, because its default follows the level of transformers' messages, which earlier tests may have changed
    words = [
        "configs/quickstart.yaml",
        *QUICK,
        "--disable_tqdm",
        "false",
        "--data_dir",
        str(data),
        "--output_dir",
        str(folder / "the model"),
    ]
    return run_train(*words), folder


@pytest.mark.slow
def test_each_phase_has_one_bar(said: tuple[str, Path]) -> None:
    bars = {((name or "").strip(" :"), int(total)) for name, total in _BAR.findall(said[0])}
    named = {name for name, _ in bars}
    assert named == {"", "Calibrating", "Exporting", "Guard"}, "without a name: the trainer's"
    assert len(bars) == len(named), f"a second bar in a phase: {bars}"


@pytest.mark.slow
def test_the_last_line_is_the_next_command_and_it_works(said: tuple[str, Path]) -> None:
    text, folder = said
    command = shlex.split(text.strip().splitlines()[-1].split("next: ")[1])
    assert command[:2] == ["brain-mri", "evaluate"] and command[-1] == str(folder / "my scans")
    done = run_door(evaluation, *command[2:])
    assert done.code == 0 and "FALSE ALL-CLEARS" in done.said
    bars = {name.strip(" :") for name, _ in _BAR.findall(done.said)}
    assert bars == {"Predicting", "Predicting, model_quantized.onnx"}


@pytest.mark.slow
def test_thresholds_are_said_with_four_digits(said: tuple[str, Path]) -> None:
    line = next(line for line in said[0].splitlines() if "temperature" in line and "fitted" in line)
    assert re.search(r"in a prediction set from \d\.\d{4}, no answer below \d\.\d{4}$", line)


@pytest.mark.slow
def test_what_a_training_leaves_may_be_read_by_whom_the_umask_lets(said: tuple[str, Path]) -> None:
    model = said[1] / "the model"
    modes = {path.stat().st_mode & 0o777 for path in model.rglob("*") if path.is_file()}
    weights = {path.name for path in model.rglob("*.safetensors")}
    assert {"model.safetensors", "guard.safetensors"} <= weights
    (said[1] / "new").touch()
    assert modes == {(said[1] / "new").stat().st_mode & 0o777}


@pytest.mark.slow
def test_a_folder_is_not_recorded_as_a_data_set_of_the_hub(said: tuple[str, Path]) -> None:
    assert json.loads((said[1] / "the model" / "run.json").read_text())["data"]["on_hub"] is False


@pytest.mark.slow
def test_the_audit_that_is_published_names_no_file(said: tuple[str, Path]) -> None:
    text = (said[1] / "the model" / "audit.json").read_text()
    assert '"test_with_twin"' in text and ".png" not in text


@pytest.mark.slow
def test_a_healthy_class_that_is_not_known_as_one_is_missed_before_the_first_step(
    phantoms: Path, tmp_path: Path
) -> None:
    shutil.copytree(phantoms, tmp_path / "data", ignore=shutil.ignore_patterns("*.csv"))
    for folder in list((tmp_path / "data").glob("*/no_tumor")):
        folder.rename(folder.with_name("rien"))
    options = [*QUICK, "--data_dir", str(tmp_path / "data"), "--output_dir", str(tmp_path / "model")]
    text = run_train("configs/quickstart.yaml", *options)
    assert "is known to mean that there is no tumour" in text[: text.index("'loss'")]
