from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from brain_mri.arguments import Columns
from brain_mri.data.image_folder import scan_folder
from brain_mri.errors import DataError


def _images(folder: Path, *names: str) -> Path:
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), i).save(folder / name)
    return folder


def _labels(folder: Path, columns: Columns | None = None) -> dict[str, str]:
    layout = scan_folder(folder, columns)
    layout.check()
    return {image.file_name: image.label for image in layout.images}


@pytest.mark.parametrize("table", ["labels.csv", "metadata.csv"])
@pytest.mark.parametrize("columns", ["file_name,label", "image_id;diagnosis", "Filename\tClass"])
def test_labels_are_read_from_a_table_beside_the_images(tmp_path: Path, table: str, columns: str) -> None:
    mark = next(mark for mark in ",;\t" if mark in columns)
    _images(tmp_path, "a.png", "b.png", "c.png")
    rows = [columns, f"a.png{mark}Glioma Tumor", f"b{mark}healthy", f"c.png{mark}healthy"]
    (tmp_path / table).write_text("\n".join(rows))
    assert _labels(tmp_path) == {"a.png": "glioma", "b.png": "no_tumor", "c.png": "no_tumor"}


def test_a_table_may_name_splits_and_patients(tmp_path: Path) -> None:
    _images(tmp_path, "images/a.png", "images/b.png", "images/c.png", "images/d.png")
    (tmp_path / "labels.csv").write_text(
        "file_name,label,split,patient_id\nimages/a.png,yes,train,1\nimages/b.png,no,train,2\n"
        "images/c.png,yes,test,3\nimages/d.png,no,Testing,3\n"
    )
    layout = scan_folder(tmp_path)
    layout.check()
    assert [image.split for image in layout.images] == ["train", "train", "test", "test"]
    assert layout.patient_groups()["images/d.png"] == "3"


def test_each_split_may_have_its_table(tmp_path: Path) -> None:
    for split in ("train", "test"):
        _images(tmp_path / split, "a.png", "b.png")
        (tmp_path / split / "metadata.csv").write_text("file_name,label\na.png,yes\nb.png,no\n")
    assert _labels(tmp_path)["test/b.png"] == "no"


def test_one_table_may_serve_all_splits(tmp_path: Path) -> None:
    _images(tmp_path, "train/a.png", "train/b.png", "test/a.png", "test/b.png")
    (tmp_path / "metadata.csv").write_text(
        "file_name,label\ntrain/a.png,yes\ntrain/b.png,no\ntest/a.png,no\ntest/b.png,yes\n"
    )
    layout = scan_folder(tmp_path)
    layout.check()
    assert {(image.split, image.label) for image in layout.images} == {
        (split, label) for split in ("train", "test") for label in ("yes", "no")
    }


def test_columns_of_other_names_can_be_said(tmp_path: Path) -> None:
    _images(tmp_path, "a.png", "b.png")
    (tmp_path / "labels.csv").write_text("scan,what,who\na.png,yes,me\nb.png,no,you\n")
    with pytest.raises(DataError, match=r"scan, what, who; .*--label_column"):
        scan_folder(tmp_path)
    assert _labels(tmp_path, Columns("scan", "what")) == {"a.png": "yes", "b.png": "no"}
    with pytest.raises(DataError, match="--label_column whom: the columns are scan, what, who"):
        scan_folder(tmp_path, Columns("scan", "whom"))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("a.png,yes\n", r"1 images have no row in labels\.csv \(b\.png"),
        ("a.png,yes\nb.png,no\nc.png,no\n", r"1 rows name no image.*'c\.png'"),
        ("a.png,yes\nb.png,\n", r"line 3 \(b\.png\): no label"),
        ("a.png,1\nb.png,0\n", r"line 2 \(a\.png\): the label '1' is a number"),
        ("a.png,yes\nb.png,n/a\n", r"'n/a' can't be the name of a folder"),
        ("a.png,yes\nb.png,no\na.png,no\n", r"line 4 \(a\.png\): is 'no' here and 'yes' above"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(tmp_path: Path, rows: str, said: str) -> None:
    _images(tmp_path, "a.png", "b.png")
    (tmp_path / "labels.csv").write_text("file_name,label\n" + rows)
    with pytest.raises(DataError, match=said):
        scan_folder(tmp_path).check()


def test_a_table_that_contradicts_the_class_folders_is_refused(tmp_path: Path) -> None:
    _images(tmp_path, "glioma/a.png", "no_tumor/b.png")
    (tmp_path / "labels.csv").write_text("file_name,label\nglioma/a.png,no_tumor\nno_tumor/b.png,no_tumor\n")
    with pytest.raises(DataError, match="lie in the folder of another class"):
        scan_folder(tmp_path).check()


def test_metadata_beside_class_folders_may_hold_anything(tmp_path: Path) -> None:
    _images(tmp_path, "glioma/a.png", "no_tumor/b.png")
    (tmp_path / "metadata.csv").write_text("file_name,diagnosis,target\nx,1,2\n")
    assert _labels(tmp_path) == {"glioma/a.png": "glioma", "no_tumor/b.png": "no_tumor"}
