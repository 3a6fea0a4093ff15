from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from brain_mri.crossval.folds import Plan, author_folds, build_fold, grouped_folds
from brain_mri.data.image_folder import scan_folder
from brain_mri.data.layout import FolderLayout
from brain_mri.errors import ConfigError, DataError


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


def test_a_fold_carries_the_review(reviewed: Path, plan: Plan, tmp_path: Path) -> None:
    layout = scan_folder(reviewed)
    fold = scan_folder(build_fold(layout, plan, 2, tmp_path / "data"))
    originals = {image.path.resolve(): image.file_name for image in layout.images}
    named = {originals[image.path.resolve()]: image.file_name for image in fold.images}
    assert fold.findings() == {named[name]: finding for name, finding in layout.findings().items()}


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


@pytest.mark.slow
def test_the_folds_of_figshare_are_of_one_size_and_the_authors_divide_patients(real_data: Path) -> None:
    layout = scan_folder(real_data / "figshare-224")
    plan = grouped_folds(layout, 5, seed=42, threshold=0.985)
    assert sum(plan.sizes.values()) == 3064 and plan.largest_group < 3064 / 5 / 2
    assert max(plan.sizes.values()) - min(plan.sizes.values()) < 100
    assert author_folds(layout, "official_fold").divided_groups > 0
