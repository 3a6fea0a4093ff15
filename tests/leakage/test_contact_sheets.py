from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from brain_mri.data.duplicates import clusters, near_duplicate_pairs
from brain_mri.data.image_folder import scan_folder
from brain_mri.data.image_table import AuditTable
from brain_mri.leakage import contact_sheets
from brain_mri.leakage.__main__ import main
from brain_mri.leakage.audit import audit_folder
from brain_mri.leakage.contact_sheets import write_sheets


@pytest.fixture
def copied(reviewed: Path, tmp_path: Path) -> Path:
    """The reviewed phantoms with two more copies of a training glioma, one of them mirrored."""
    folder = shutil.copytree(reviewed, tmp_path / "copied")
    original = sorted(folder.glob("train/glioma/*.png"))[4]
    shutil.copyfile(original, original.with_name("copy.png"))
    Image.open(original).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(original.with_name("mirrored.png"))
    return folder


def _sheets(folder: Path, output: Path, pages: int = 20) -> tuple[AuditTable, list[Path]]:
    _, table = audit_folder(folder, processes=1)
    groups = clusters(len(table), near_duplicate_pairs(table.thumbnails))
    return table, write_sheets(table, groups, scan_folder(folder).root, output, pages)


def test_every_class_gets_clusters_and_outliers_and_the_reviewed_one_what_is_listed(
    copied: Path, tmp_path: Path
) -> None:
    _, written = _sheets(copied, tmp_path / "sheets")
    labels = ("glioma", "meningioma", "no_tumor", "pituitary")
    expected = {f"{kind}_{label}_01.png" for kind in ("clusters", "outliers") for label in labels}
    assert {path.name for path in written} == expected | {"reviewed_no_tumor_01.png"}
    for path in written:
        with Image.open(path) as page:
            assert page.width > 1000 and np.asarray(page).std() > 10, path.name
    heights = {path.name: Image.open(path).height for path in written}
    assert heights["reviewed_no_tumor_01.png"] < heights["clusters_no_tumor_01.png"], "5 pictures are one row"


def test_the_table_names_the_images_behind_each_picture(copied: Path, tmp_path: Path) -> None:
    table, _ = _sheets(copied, tmp_path / "sheets")
    with (tmp_path / "sheets" / "pictures.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert {row["file_name"] for row in rows} == set(table.file_names) and len(rows) == len(table)
    first = [row for row in rows if (row["class"], row["picture"]) == ("glioma", "1")]
    assert len(first) == 3 and {row["copies"] for row in first} == {"3"}
    assert {"train/glioma/copy.png", "train/glioma/mirrored.png"} < {row["file_name"] for row in first}
    listed = {row["file_name"]: row["finding"] for row in rows if row["finding"]}
    assert listed == scan_folder(copied).findings()


def test_what_does_not_fit_on_a_page_goes_to_the_next_up_to_the_limit(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contact_sheets, "_COLUMNS", 3)
    monkeypatch.setattr(contact_sheets, "_ROWS", 2)
    _sheets(copied, tmp_path / "sheets")
    names = sorted(path.name for path in (tmp_path / "sheets").glob("clusters_pituitary_*"))
    assert names == [f"clusters_pituitary_{number:02}.png" for number in (1, 2, 3)], "18 pictures, 6 a page"
    _sheets(copied, tmp_path / "sheets", pages=2)
    assert len(list((tmp_path / "sheets").glob("clusters_pituitary_*"))) == 2, "no page of an earlier audit stays"


def test_the_command_says_that_the_sheets_are_not_to_be_published(
    copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(copied), "--output", str(tmp_path / "audit")])
    printed = capsys.readouterr().out
    assert "9 contact sheets" in printed and "DO NOT PUBLISH" in printed and "review.csv" in printed
    assert "no_tumor: 2 ct" in printed and "no_tumor: 1 ct, 2 lesion" in printed
    main([str(copied), "--output", str(tmp_path / "without"), "--pages", "0"])
    assert "contact sheets" not in capsys.readouterr().out and not (tmp_path / "without" / "sheets").exists()
