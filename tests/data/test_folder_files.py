from __future__ import annotations

import io
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from support.dicom_files import as_mr

from brain_mri.arguments import DataArguments
from brain_mri.crossval.folds import Plan, build_fold
from brain_mri.data.file_features import FEATURES
from brain_mri.data.image_folder import scan_folder
from brain_mri.data.prepare import prepare_images
from brain_mri.data.slice_file import read_slice
from brain_mri.data.transforms import Preprocessing
from brain_mri.errors import DataError, ImageError
from brain_mri.hub.shards import write_shards
from brain_mri.leakage.audit import audit_folder

_ENDINGS = (".jpg", ".jfif", ".jpe", ".JPG", ".dcm", "", ".tif", ".png.bak")


def _jpeg(seed: int) -> bytes:
    buffer = io.BytesIO()
    values = np.random.default_rng(seed).integers(0, 255, (24, 24)).astype(np.uint8)
    Image.fromarray(values).save(buffer, "JPEG")
    return buffer.getvalue()


def _folder(root: Path, endings: tuple[str, ...] = (".jpg",) * 3) -> Path:
    for k, label in enumerate(("glioma", "no_tumor")):
        (root / label).mkdir(parents=True)
        for i, ending in enumerate(endings):
            (root / label / f"{i}{ending}").write_bytes(_jpeg(100 * k + i))
    return root


def test_pictures_are_taken_by_content_whatever_their_ending(tmp_path: Path, preprocessing: Preprocessing) -> None:
    folder = _folder(tmp_path, _ENDINGS)
    names = {f"{label}/{i}{ending}" for label in ("glioma", "no_tumor") for i, ending in enumerate(_ENDINGS)}
    prepared = prepare_images(DataArguments(data_dir=str(folder)), preprocessing)
    _, table = audit_folder(folder)
    assert set(prepared.rows["file_name"][:]) == set(table.file_names) == names


def test_a_dicom_slice_is_an_image_like_any_other(tmp_path: Path, preprocessing: Preprocessing) -> None:
    folder = _folder(tmp_path)
    (folder / "glioma" / "IM0001").write_bytes(as_mr("MR_small.dcm"))
    rows = prepare_images(DataArguments(data_dir=str(folder)), preprocessing).rows
    features = dict(zip(rows["file_name"][:], rows["shortcut"][:], strict=True))["glioma/IM0001"]
    assert np.isfinite(features).all() and features[FEATURES.index("jpeg")] == 0
    with pytest.raises(DataError, match="glioma/IM0001"):
        write_shards(folder, tmp_path / "shards", "cc0-1.0", "x")  # its header would go to the Hub


def test_a_ct_among_mr_is_named_by_every_reader(tmp_path: Path, preprocessing: Preprocessing) -> None:
    from pydicom.data import get_testdata_file

    folder = _folder(tmp_path)
    shutil.copy(str(get_testdata_file("CT_small.dcm", download=False)), folder / "no_tumor" / "scan.dcm")
    for read in (
        lambda: prepare_images(DataArguments(data_dir=str(folder)), preprocessing),
        lambda: audit_folder(folder),
    ):
        with pytest.raises(DataError, match=r"no_tumor/scan\.dcm: .*CT"):
            read()


def test_a_file_of_several_slices_is_no_image_of_a_class(tmp_path: Path) -> None:
    pages = [Image.new("L", (16, 16), value) for value in (10, 20, 30)]
    stack = io.BytesIO()
    pages[0].save(stack, "TIFF", save_all=True, append_images=pages[1:])
    with pytest.raises(ImageError, match=r"stack\.tif: holds 3 slices"):
        read_slice(stack.getvalue(), "stack.tif")
    dataset = dcmread(io.BytesIO(as_mr("MR_small.dcm")))
    dataset.NumberOfFrames, dataset.PixelData = 2, dataset.PixelData * 2
    frames = io.BytesIO()
    dataset.save_as(frames)
    with pytest.raises(ImageError, match="holds 2 slices"):
        read_slice(frames.getvalue(), "cine.dcm")


def test_what_is_no_picture_is_named_and_documents_are_only_counted(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    for name, content in {
        "empty.jpg": b"", "what": b"\x07\x07", "scan.nii": b"\0" * 344 + b"n+1\0", "more.zip": b"PK\3\4" + b"\0" * 30,
        "notes.txt": b"seen", "table.csv": b"a,b", ".DS_Store": b"x", "Thumbs.db": b"x",
    }.items():  # fmt: skip
        (folder / "glioma" / name).write_bytes(content)
    layout = scan_folder(folder)
    named = [next(n for n in ("empty.jpg", "what", "scan.nii", "more.zip") if n in p) for p in layout.problems]
    assert sorted(named) == ["empty.jpg", "more.zip", "scan.nii", "what"]
    assert len(layout.notes) == 1 and "2 files" in layout.notes[0] and "notes.txt" in layout.notes[0]


def test_a_pipe_is_named_and_not_waited_for(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    os.mkfifo(folder / "glioma" / "pipe.png")
    assert any("pipe.png" in problem for problem in scan_folder(folder).problems)


def test_a_link_to_a_folder_around_it_is_named_and_not_followed(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    (folder / "glioma" / "again").symlink_to(folder)
    (folder / "meningioma_2").symlink_to(folder.parent)
    layout = scan_folder(folder)
    assert [problem for problem in layout.problems if "again" in problem] == layout.problems
    assert not [image for image in layout.images if "again" in image.file_name or "_2" in image.file_name]


def test_masks_beside_their_slices_are_not_learnt_as_slices(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    (folder / "glioma" / "1_mask.jpg").write_bytes(_jpeg(9))
    (folder / "no_tumor" / "p1" / "masks").mkdir(parents=True)
    (folder / "no_tumor" / "p1" / "masks" / "1.jpg").write_bytes(_jpeg(10))
    problems = "\n".join(scan_folder(folder).problems)
    assert "1 masks" in problems and "masks/" in problems


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs /proc")
def test_a_folder_that_is_none_of_images_ends_in_a_data_error() -> None:
    with pytest.raises(DataError):
        scan_folder("/proc/self").check()


def test_folders_inside_a_class_are_patients_that_stay_together(tmp_path: Path) -> None:
    for k, label in enumerate(("glioma", "no_tumor")):
        for patient in range(3):
            for i in range(2):
                path = tmp_path / "train" / label / f"patient_{patient}" / "series" / f"{i}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(_jpeg(100 * k + 10 * patient + i))
    layout = scan_folder(tmp_path)
    layout.check()
    groups = layout.patient_groups()
    assert len(groups) == 12 and set(groups.values()) == {"patient_0", "patient_1", "patient_2"}
    assert any("3 in 12 images" in note for note in layout.notes)
    plan = Plan({image.file_name: 1 + (image.patient == "patient_0") for image in layout.images}, 3, 4, 0)
    fold = scan_folder(build_fold(layout, plan, 2, tmp_path / "fold"))
    assert len(fold.images) == 12 and sorted(fold.patient_groups().values()) == sorted(groups.values())


def test_patients_csv_takes_the_place_of_folders(tmp_path: Path) -> None:
    for label in ("yes", "no"):
        (tmp_path / label / "a").mkdir(parents=True)
        (tmp_path / label / "a" / "1.jpg").write_bytes(_jpeg(len(label)))
    (tmp_path / "patients.csv").write_text("file_name;patient_group\nyes/a/1.jpg;P7\n")
    assert scan_folder(tmp_path).patient_groups() == {"yes/a/1.jpg": "P7"}


@pytest.mark.parametrize(
    ("inner", "said"),
    [("train", "split inside"), ("glioma", "class inside"), ("flair", "no patient"), ("images", "up")],
)
def test_folders_in_a_class_that_are_no_patients_are_named(tmp_path: Path, inner: str, said: str) -> None:
    for label in ("glioma", "no_tumor"):
        (tmp_path / label / inner).mkdir(parents=True)
        (tmp_path / label / inner / "1.jpg").write_bytes(_jpeg(len(label)))
    with pytest.raises(DataError, match=said):
        scan_folder(tmp_path).check()


def test_a_single_class_is_not_taken_for_an_outer_folder(tmp_path: Path) -> None:
    for patient in ("p1", "p2"):
        (tmp_path / "glioma" / patient).mkdir(parents=True)
        (tmp_path / "glioma" / patient / "1.jpg").write_bytes(_jpeg(int(patient[1])))
    with pytest.raises(DataError, match="only one class"):
        scan_folder(tmp_path).check()


def test_seven_thousand_images_are_listed_in_about_a_second(tmp_path: Path) -> None:
    folder, content = _folder(tmp_path), _jpeg(1)
    for i in range(7000):
        (folder / "glioma" / f"image_{i}.jpg").write_bytes(content)
    started = time.process_time()
    assert len(scan_folder(folder).images) == 7006
    assert time.process_time() - started < 3  # 0.2 s on a free core
