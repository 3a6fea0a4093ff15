from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from brain_mri.data.image_folder import scan_folder
from brain_mri.errors import DataError
from brain_mri.labels import LABELS


def _tree(root: Path, *folders: str, images: int = 2) -> Path:
    for folder in folders:
        (root / folder).mkdir(parents=True)
        for i in range(images):
            Image.new("L", (8, 8), i).save(root / folder / f"{i}.png")
    return root


def test_training_and_testing_are_found_as_splits(tmp_path: Path) -> None:
    layout = scan_folder(_tree(tmp_path, "Training/glioma", "Training/notumor", "Testing/glioma", "Testing/notumor"))
    layout.check()
    assert Counter(image.split for image in layout.images) == {"train": 4, "test": 4}
    assert layout.label_names == ("glioma", "no_tumor")


@pytest.mark.slow
def test_the_kaggle_set_is_two_splits_of_5712_and_1311(real_data: Path) -> None:
    layout = scan_folder(real_data / "brain-tumor-mri")
    layout.check()
    assert Counter(image.split for image in layout.images) == {"train": 5712, "test": 1311}
    assert layout.label_names == LABELS
    assert len(layout.patient_groups()) == 4382
    assert len(layout.boxes()) == 3230
    assert Counter(layout.findings().values()) == {"ct": 73, "lesion": 59}


def test_an_unpacked_archive_is_found_one_folder_down(tmp_path: Path) -> None:
    layout = scan_folder(_tree(tmp_path, "archive/data/train/yes", "archive/data/train/no").parent / tmp_path.name)
    layout.check()
    assert layout.root == tmp_path / "archive" / "data"


def test_classes_without_splits_are_one_set(tmp_path: Path) -> None:
    layout = scan_folder(_tree(tmp_path, "yes", "no"))
    layout.check()
    assert {image.split for image in layout.images} == {"all"}
    assert layout.label_names == ("no", "yes")


def test_splits_may_spell_a_class_differently(tmp_path: Path) -> None:
    layout = scan_folder(_tree(tmp_path, "train/glioma_tumor", "train/no", "test/glioma", "test/notumor"))
    layout.check()
    assert {image.label for image in layout.images} == {"glioma", "no_tumor"}


def test_every_problem_is_named_in_one_error(tmp_path: Path) -> None:
    _tree(tmp_path, "Training/glioma/deeper", "Training/pituitary", "Testing/glioma", "extra/glioma")
    Image.new("L", (8, 8)).save(tmp_path / "Training" / "glioma" / "beside.png")
    (tmp_path / "Training" / "meningioma").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "Testing" / "stray.png")
    with pytest.raises(DataError) as error:
        scan_folder(tmp_path).check()
    message = str(error.value)
    for offender in (
        "extra/",
        "Training/glioma/deeper/",
        "Training/meningioma/",
        "stray.png",
        "class pituitary is in Training/, and not in Testing/",
    ):
        assert offender in message


def test_a_split_given_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Training/ and train/ are both the train split"):
        scan_folder(_tree(tmp_path, "train/a", "train/b", "Training/a", "Training/b")).check()


def test_a_missing_and_an_empty_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        scan_folder(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no image in it"):
        scan_folder(tmp_path).check()


def test_patients_and_boxes_are_read_from_beside_the_splits(tmp_path: Path) -> None:
    _tree(tmp_path, "train/a", "train/b")
    (tmp_path / "patients.csv").write_text("file_name,patient_group\ntrain/a/0.png,P1\ntrain/a/1.png,\n")
    (tmp_path / "train" / "boxes.csv").write_text("file_name,center_x,center_y,width,height\nb/1.png,0.5,0.5,0.1,0.2\n")
    (tmp_path / "review.csv").write_text("file_name,finding,by\ntrain/a/0.png, ct ,me\n")
    layout = scan_folder(tmp_path)
    assert layout.patient_groups() == {"train/a/0.png": "P1"}
    assert layout.findings() == {"train/a/0.png": "ct"}
    assert layout.boxes() == {"train/b/1.png": (0.5, 0.5, 0.1, 0.2)}


@pytest.mark.parametrize(
    ("table", "content", "message"),
    [
        ("patients.csv", "name,patient\n", "needs the columns file_name and patient_group or patient_id"),
        ("patients.csv", "file_name,patient_group\ntrain/a/9.png,P1\n", "'train/a/9.png' is not an image"),
        ("boxes.csv", "file_name,center_x,center_y,width,height\ntrain/a/0.png,50,50,9,9\n", "fractions of the image"),
        ("boxes.csv", "file_name,center_x,center_y,width,height\ntrain/a/0.png,x,0,0,0\n", "needs the four numbers"),
        ("boxes.csv", "file_name,center_x,center_y,width,height\ntrain/a/0.png,0.5\n", "needs the four numbers"),
        ("review.csv", "file_name,what\ntrain/a/0.png,ct\n", "needs the columns file_name and finding"),
        ("review.csv", "file_name,finding\ntrain/a/9.png,ct\n", "'train/a/9.png' is not an image"),
        ("review.csv", "file_name,finding\ntrain/a/0.png,\n", "'train/a/0.png' has no finding"),
        ("review.csv", "file_name,finding\ntrain/a/0.png\n", "'train/a/0.png' has no finding"),
        ("patients.csv", "patient_group,file_name\nP1\n", "is not an image"),
        ("patients.csv", "file_name,patient_group\ntrain/a/0.png,M\udcfcller\n", "is not in UTF-8"),
    ],
)
def test_a_wrong_side_table_is_named(tmp_path: Path, table: str, content: str, message: str) -> None:
    _tree(tmp_path, "train/a", "train/b")
    (tmp_path / table).write_bytes(content.encode(errors="surrogateescape"))
    layout = scan_folder(tmp_path)
    with pytest.raises(DataError, match=message):
        {"patients.csv": layout.patient_groups, "boxes.csv": layout.boxes, "review.csv": layout.findings}[table]()


def test_classes_that_are_numbers_are_refused(tmp_path: Path) -> None:
    layout = scan_folder(_tree(tmp_path, "0", "1"))
    with pytest.raises(DataError, match=r"0, 1 are numbers.*no_tumor"):
        layout.check()
