from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brain_mri import crossval
from brain_mri.crossval import SUMMARY, main, summarise
from brain_mri.errors import BrainMRIError, ConfigError, DataError
from brain_mri.folds import Plan, author_folds, build_fold, grouped_folds
from brain_mri.layout import FolderLayout, scan_folder

_CONFIG = str(Path(__file__).parents[1] / "configs" / "quickstart.yaml")


@pytest.fixture(scope="module")
def layout(phantoms: Path) -> FolderLayout:
    return scan_folder(phantoms)


@pytest.fixture(scope="module")
def plan(layout: FolderLayout) -> Plan:
    return grouped_folds(layout, 3, seed=1, threshold=0.985)


def _copy(phantoms: Path, folder: Path, patients: str | None) -> FolderLayout:
    """The phantoms' pictures by link, with another patients.csv."""
    folder.mkdir()
    for split in ("train", "test"):
        (folder / split).symlink_to(phantoms / split)
    if patients is not None:
        (folder / "patients.csv").write_text(patients)
    return scan_folder(folder)


def _with_folds(layout: FolderLayout, numbers: list[object]) -> str:
    groups = layout.patient_groups()
    names = [image.file_name for image in layout.images]
    rows = [f"{name},{groups[name]},{number}" for name, number in zip(names, numbers, strict=True)]
    return "\n".join(["file_name,patient_group,official_fold", *rows]) + "\n"


def _write_results(folder: Path, number: int, accuracy: float, **more: float) -> None:
    scores: dict[str, Any] = {name: {"value": value} for name, value in {"accuracy": accuracy, **more}.items()}
    scores |= {"n": 10, "label_names": ["no", "yes"], "confusion_matrix": [[5, 0], [number, 5 - number]]}
    model = folder / f"fold{number}" / "model"
    (model / "evaluation").mkdir(parents=True)
    (model / "evaluation" / "results.json").write_text(json.dumps({"scores": scores}))
    (model / "run.json").write_text(json.dumps({"recipe": {"rotation": 15.0}}))


def test_every_image_is_tested_once_and_no_patient_is_on_both_sides(layout: FolderLayout, plan: Plan) -> None:
    assert sorted(plan.fold_of) == sorted(image.file_name for image in layout.images)
    folds_of = defaultdict(set)
    for name, group in layout.patient_groups().items():
        folds_of[group].add(plan.fold_of[name])
    assert len(folds_of) > 30 and all(len(folds) == 1 for folds in folds_of.values())
    assert set(plan.sizes) == {1, 2, 3} and max(plan.sizes.values()) - min(plan.sizes.values()) <= 6


def test_near_duplicates_of_different_patients_stay_together(phantoms: Path, tmp_path: Path) -> None:
    layout = scan_folder(phantoms)
    folder = tmp_path / "data"
    groups = layout.patient_groups()
    for image in layout.images:
        target = folder / image.label / f"{image.split}-{image.path.name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(image.path.read_bytes())
    rows = [f"{i.label}/{i.split}-{i.path.name},{groups[i.file_name]}" for i in layout.images]
    for image in layout.images[::6]:  # the same picture as another patient's
        (folder / image.label / f"copy-{image.path.name}").write_bytes(image.path.read_bytes())
        rows.append(f"{image.label}/copy-{image.path.name},another-{image.path.stem}")
    (folder / "patients.csv").write_text("\n".join(["file_name,patient_group", *rows]) + "\n")
    plan = grouped_folds(scan_folder(folder), 3, seed=1, threshold=0.985)
    for image in layout.images[::6]:
        original = f"{image.label}/{image.split}-{image.path.name}"
        assert plan.fold_of[f"{image.label}/copy-{image.path.name}"] == plan.fold_of[original]


def test_the_same_seed_gives_the_same_folds_and_another_seed_others(layout: FolderLayout, plan: Plan) -> None:
    assert grouped_folds(layout, 3, seed=1, threshold=0.985) == plan
    assert grouped_folds(layout, 3, seed=2, threshold=0.985) != plan


def test_the_authors_folds_are_kept_and_divided_patients_are_counted(
    layout: FolderLayout, phantoms: Path, tmp_path: Path
) -> None:
    numbers: list[object] = [1 + i % 2 for i in range(len(layout.images))]  # parts the two slices of each patient
    plan = author_folds(_copy(phantoms, tmp_path / "data", _with_folds(layout, numbers)), "official_fold")
    assert list(plan.fold_of.values()) == numbers
    patients = len(set(layout.patient_groups().values()))
    assert plan.divided_groups == patients == plan.groups and plan.largest_group == 2


def test_patients_that_are_whole_in_the_authors_folds_are_not_counted(
    layout: FolderLayout, phantoms: Path, tmp_path: Path
) -> None:
    numbers: list[object] = [1 + i // 2 % 2 for i in range(len(layout.images))]
    plan = author_folds(_copy(phantoms, tmp_path / "data", _with_folds(layout, numbers)), "official_fold")
    assert plan.divided_groups == 0


@pytest.mark.parametrize(("bad", "said"), [("", "1 images have no number"), (4, r"\[1, 2, 4\]")])
def test_folds_that_are_missing_or_leave_a_gap_are_refused(
    bad: object, said: str, layout: FolderLayout, phantoms: Path, tmp_path: Path
) -> None:
    numbers: list[object] = [1 + i % 2 for i in range(len(layout.images))]
    data = _copy(phantoms, tmp_path / "data", _with_folds(layout, [bad, *numbers[1:]]))
    with pytest.raises(DataError, match=said):
        author_folds(data, "official_fold")


def test_a_fold_without_a_class_is_refused(layout: FolderLayout, phantoms: Path, tmp_path: Path) -> None:
    numbers: list[object] = [1 if image.label == "glioma" else 1 + i % 2 for i, image in enumerate(layout.images)]
    with pytest.raises(DataError, match="fold 1 has none or all of the class glioma"):
        author_folds(_copy(phantoms, tmp_path / "data", _with_folds(layout, numbers)), "official_fold")


def test_a_table_without_the_authors_column_is_named(layout: FolderLayout) -> None:
    with pytest.raises(DataError, match="file_name and official_fold"):
        author_folds(layout, "official_fold")


@pytest.mark.parametrize("patients", [None, "file_name,patient_group\n"])
def test_without_patients_there_is_no_patient_wise_figure(patients: str | None, phantoms: Path, tmp_path: Path) -> None:
    data = _copy(phantoms, tmp_path / "data", patients)
    with pytest.raises(DataError, match=r"add one \(file_name, patient_group\)"):
        grouped_folds(data, 3, seed=1, threshold=0.985)
    with pytest.raises(DataError, match=r"add one \(file_name, patient_group\)"):
        author_folds(data, "official_fold")


def test_more_folds_than_patients_are_refused(layout: FolderLayout) -> None:
    with pytest.raises(DataError, match=r"has \d patient groups, too few for 30 folds: lower --folds"):
        grouped_folds(layout, 30, seed=1, threshold=0.985)
    with pytest.raises(ConfigError, match="--folds 1: give 2 or more"):
        grouped_folds(layout, 1, seed=1, threshold=0.985)


def test_a_fold_is_a_whole_image_folder_whose_tables_follow_the_images(
    layout: FolderLayout, plan: Plan, tmp_path: Path
) -> None:
    fold = scan_folder(build_fold(layout, plan, 2, tmp_path / "data"))
    fold.check()
    assert {image.split for image in fold.images} == {"train", "test"} and fold.label_names == layout.label_names
    original = {image.path.resolve(): image for image in layout.images}
    assert len(fold.images) == len({image.path.resolve() for image in fold.images}) == len(original)
    groups, boxes, names = fold.patient_groups(), fold.boxes(), {}
    for image in fold.images:
        source = original[image.path.resolve()]
        names[source.file_name] = image.file_name
        assert image.path.is_symlink() and image.label == source.label
        assert (image.split == "test") == (plan.fold_of[source.file_name] == 2)
        assert groups[image.file_name] == layout.patient_groups()[source.file_name]
    assert boxes == {names[name]: box for name, box in layout.boxes().items()} and boxes
    assert not list(tmp_path.glob(".*"))


def test_images_of_one_name_in_two_splits_both_stay(tmp_path: Path, phantoms: Path) -> None:
    pictures = iter(sorted(phantoms.rglob("*.png")))
    for split, label in ((s, c) for s in ("Training", "Testing") for c in ("yes", "no")):
        (tmp_path / "data" / split / label).mkdir(parents=True)
        (tmp_path / "data" / split / label / "1.png").write_bytes(next(pictures).read_bytes())
    (tmp_path / "data" / "Training" / "patients.csv").write_text("file_name,patient_group\nyes/1.png,A\n")
    layout = scan_folder(tmp_path / "data")
    plan = Plan({image.file_name: 1 + (image.split == "train") for image in layout.images}, 4, 1, 0)
    fold = scan_folder(build_fold(layout, plan, 1, tmp_path / "fold"))
    assert [image.file_name for image in fold.images if image.split == "test"] == [
        "test/no/test-1.png",
        "test/yes/test-1.png",
    ]
    assert fold.patient_groups() == {"train/yes/train-1.png": "A"}
    assert not (tmp_path / "fold" / "boxes.csv").exists()


def test_files_are_copied_where_links_are_not_possible(
    layout: FolderLayout, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    fold = scan_folder(build_fold(layout, plan, 1, tmp_path / "data"))
    assert len(fold.images) == len(layout.images) and not any(image.path.is_symlink() for image in fold.images)
    assert sorted(i.path.read_bytes() for i in fold.images) == sorted(i.path.read_bytes() for i in layout.images)


def test_two_links_to_one_file_stay_two_files(phantoms: Path, tmp_path: Path) -> None:
    pictures = sorted(phantoms.rglob("*.png"))
    for label, first in (("yes", 0), ("no", 2)):
        (tmp_path / "data" / label).mkdir(parents=True)
        for name, source in (("a", first), ("b", first), ("c", first + 1)):
            (tmp_path / "data" / label / f"{name}.png").symlink_to(pictures[source])
    layout = scan_folder(tmp_path / "data")
    plan = Plan({image.file_name: 1 + (image.path.stem == "c") for image in layout.images}, 4, 2, 0)
    fold = scan_folder(build_fold(layout, plan, 2, tmp_path / "fold"))
    assert len({image.path.resolve() for image in fold.images}) == 6


def test_a_fold_half_built_is_built_anew_and_a_whole_one_is_kept(
    layout: FolderLayout, plan: Plan, tmp_path: Path
) -> None:
    half = tmp_path / ".data.partial" / "train" / "glioma"
    half.mkdir(parents=True)
    (half / "stale.png").write_bytes(b"")
    folder = build_fold(layout, plan, 1, tmp_path / "data")
    assert not list(tmp_path.rglob("stale.png"))
    before = (folder / "patients.csv").stat().st_mtime_ns
    build_fold(layout, plan, 1, folder)
    assert (folder / "patients.csv").stat().st_mtime_ns == before


def test_the_summary_is_of_the_finished_folds_with_the_sample_deviation(tmp_path: Path) -> None:
    plan = Plan({"a": 1, "b": 2, "c": 3}, 3, 1, 0)
    assert summarise(tmp_path, plan) == {"n_folds": 3, "finished": [], "metrics": {}}
    _write_results(tmp_path, 1, 0.9, macro_f1=0.8)
    one = summarise(tmp_path, plan)
    assert one["metrics"] == {
        "accuracy": {"mean": 0.9, "values": [0.9]},
        "macro_f1": {"mean": 0.8, "values": [0.8]},
    }
    _write_results(tmp_path, 3, 0.7)
    two = summarise(tmp_path, plan)
    assert two["finished"] == [1, 3] and two["n"] == 20 and two["n_folds"] == 3 and two["guided"] is False
    assert two["metrics"]["accuracy"]["sd"] == pytest.approx(np.std([0.9, 0.7], ddof=1))
    assert "macro_f1" not in two["metrics"], "a figure that one fold lacks has no mean over folds"
    assert two["pooled"] == {"accuracy": 16 / 20, "confusion_matrix": [[10, 0], [4, 6]]}
    table = crossval.format_table(two, plan).splitlines()
    assert [line.split()[0] for line in table] == ["fold", "1", "3", "mean"] and "0.8000 +- 0.1414" in table[-1]


def test_a_recipe_with_guidance_is_said_to_be_guided(tmp_path: Path) -> None:
    _write_results(tmp_path, 1, 0.9)
    (tmp_path / "fold1" / "model" / "run.json").write_text(json.dumps({"recipe": {"guidance": 0.3}, "boxed_images": 7}))
    assert summarise(tmp_path, Plan({"a": 1, "b": 2}, 2, 1, 0))["guided"] is True


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let the scripts leave what they would, and note which ran in which fold."""
    ran: list[str] = []

    def pretend(script: str, words: list[str], fold: Path, processes: int) -> None:
        ran.append(f"{script} {fold.name}")
        if script == "train.py":
            assert words[words.index("--data_dir") + 1] == str(fold / "data") and "--learning_rate" in words
            (fold / "model").mkdir()
            (fold / "model" / "run.json").write_text("{}")
        else:
            (fold / "model" / "run.json").unlink()
            (fold / "model").rmdir()
            _write_results(fold.parent, int(fold.name[-1]), 0.9)

    monkeypatch.setattr(crossval, "_call", pretend)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    return ran


def _words(phantoms: Path, out: Path, *more: str) -> list[str]:
    folds = ["--data_dir", str(phantoms), "--output_dir", str(out), "--folds", "3", "--learning_rate", "1e-3"]
    return [_CONFIG, *folds, *more]


def test_finished_folds_are_skipped_and_a_trained_one_is_only_judged(
    calls: list[str], phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(_words(phantoms, tmp_path, "--only", "2"))
    assert calls == ["train.py fold2", "evaluate_model.py fold2"]
    assert json.loads((tmp_path / SUMMARY).read_text())["finished"] == [2]
    (tmp_path / "fold3" / "model").mkdir(parents=True)
    (tmp_path / "fold3" / "model" / "run.json").write_text("{}")
    calls.clear()
    main(_words(phantoms, tmp_path))
    assert calls == ["train.py fold1", "evaluate_model.py fold1", "evaluate_model.py fold3"]
    summary = json.loads((tmp_path / SUMMARY).read_text())
    assert summary["finished"] == [1, 2, 3] and summary["folds_by"] == "grouped" and summary["seed"] == 42
    assert "72 images" in (said := capsys.readouterr().out) and "0.9000 +- 0.0000" in said


def test_folds_of_two_recipes_are_never_averaged(calls: list[str], phantoms: Path, tmp_path: Path) -> None:
    main(_words(phantoms, tmp_path, "--only", "1"))
    with pytest.raises(ConfigError, match="begun with other train_options: give the same, or another --output_dir"):
        main(_words(phantoms, tmp_path, "--drop_rate", "0.5"))
    with pytest.raises(ConfigError, match="begun with other train_options"):
        main(_words(phantoms, tmp_path, "--split_seed", "7"))


def test_before_anything_is_trained_other_options_begin_anew(calls: list[str], phantoms: Path, tmp_path: Path) -> None:
    main(_words(phantoms, tmp_path, "--only", "1"))
    subprocess.run(["rm", "-r", str(tmp_path / "fold1" / "model")], check=True)
    before = sorted(os.listdir(tmp_path / "fold1" / "data" / "test" / "glioma"))
    main(_words(phantoms, tmp_path, "--only", "1", "--split_seed", "7"))
    assert sorted(os.listdir(tmp_path / "fold1" / "data" / "test" / "glioma")) != before


def test_wrong_words_are_named_before_anything_is_read(
    calls: list[str], phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="--only 4: the folds are 1, 2, 3"):
        main(_words(phantoms, tmp_path, "--only", "4"))
    with pytest.raises(ConfigError, match="no such configuration file"):
        main(["missing.yaml", "--data_dir", str(phantoms)])
    with pytest.raises(ConfigError, match="--twin_threshold"):
        main(_words(phantoms, tmp_path, "--twin_threshold", "2"))
    with pytest.raises(DataError, match="no such folder"):
        main([_CONFIG, "--data_dir", str(tmp_path / "nowhere")])
    monkeypatch.setattr(crossval, "_SCRIPTS", tmp_path)
    with pytest.raises(ConfigError, match=r"train\.py is not there: run this from a clone"):
        main(_words(phantoms, tmp_path))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="as one process"):
        main(_words(phantoms, tmp_path))
    assert not calls


def test_several_processes_share_the_batch_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def keep(command: list[str], *_: object) -> int:
        commands.append(command)
        return 0

    monkeypatch.setattr(crossval, "_run", keep)
    (tmp_path / "fold1").mkdir()
    crossval.run_fold(tmp_path / "fold1", _CONFIG, ["--seed", "1"], processes=2)
    train, judge = (" ".join(command) for command in commands)
    assert "--nproc_per_node 2" in train and "--per_device_train_batch_size 8 " in train and "--seed 1" in train
    assert "--nproc_per_node 2" in judge and "evaluate_model.py" in judge
    crossval.run_fold(tmp_path / "fold1", _CONFIG, ["--per_device_train_batch_size", "6"], processes=3)
    assert "--per_device_train_batch_size 2 " in " ".join(commands[2])
    with pytest.raises(ConfigError, match="a batch of 16 can't be divided"):
        crossval.run_fold(tmp_path / "fold1", _CONFIG, [], processes=3)


def test_a_failed_fold_names_its_log_and_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "train.py").write_text("import sys\nsys.exit('error: the disk is full')\n")
    (tmp_path / "fold1").mkdir()
    monkeypatch.setattr(crossval, "_SCRIPTS", tmp_path)
    with pytest.raises(BrainMRIError, match=r"train\.py failed in fold1 \(the disk is full\): see .*log\.txt"):
        crossval.run_fold(tmp_path / "fold1", _CONFIG, [])


@pytest.mark.slow
def test_a_real_fold_that_was_killed_goes_on_and_the_next_start_skips_it(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = ["--num_train_epochs", "2", "--image_size", "32", "--preprocessing_workers", "1", "--save_total_limit", "5"]
    words = [_CONFIG, "--data_dir", str(phantoms), "--output_dir", str(tmp_path), "--folds", "3", "--only", "1", *quick]
    command = [sys.executable, "-m", "brain_mri.crossval", *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    checkpoints = tmp_path / "fold1" / "model" / "checkpoints"
    while process.poll() is None and not list(checkpoints.glob("checkpoint-*/trainer_state.json")):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 128 + signal.SIGTERM
    assert not (tmp_path / SUMMARY).exists()

    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr + (tmp_path / "fold1" / "log.txt").read_text()
    summary = json.loads((tmp_path / SUMMARY).read_text())
    with (tmp_path / "fold1" / "data" / "patients.csv").open() as lines:
        tested = [row for row in csv.DictReader(lines) if row["file_name"].startswith("test/")]
    assert summary["finished"] == [1] and summary["n"] == len(tested) and "sd" not in summary["metrics"]["accuracy"]
    measured = {*crossval.METRICS, "pointing_game", "mass_inside"}  # the phantoms have boxes
    assert set(summary["metrics"]) == measured and len(summary["label_names"]) == 4
    assert not (tmp_path / "fold1" / "cache").exists()

    log = (tmp_path / "fold1" / "log.txt").read_bytes()
    main(words)
    assert "under way" not in capsys.readouterr().out
    assert (tmp_path / "fold1" / "log.txt").read_bytes() == log


@pytest.mark.slow
def test_the_folds_of_figshare_are_of_one_size_and_the_authors_divide_patients(real_data: Path) -> None:
    layout = scan_folder(real_data / "figshare-224")
    plan = grouped_folds(layout, 5, seed=42, threshold=0.985)
    assert sum(plan.sizes.values()) == 3064 and plan.largest_group < 3064 / 5 / 2
    assert max(plan.sizes.values()) - min(plan.sizes.values()) < 100
    assert author_folds(layout, "official_fold").divided_groups > 0
