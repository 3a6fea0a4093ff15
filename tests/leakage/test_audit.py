from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from scipy.ndimage import gaussian_filter

from brain_mri.data.duplicates import SIDE
from brain_mri.data.image_table import AuditTable
from brain_mri.errors import ConfigError, DataError
from brain_mri.leakage import audit as auditing
from brain_mri.leakage.__main__ import main
from brain_mri.leakage.audit import audit, audit_folder, headline, without_names
from brain_mri.phantom.dataset import draw_phantom


def table_of(n: int, splits: list[str], labels: list[str] | None = None) -> AuditTable:
    """Build a table of n images that differ from each other in everything."""
    noise = gaussian_filter(np.random.default_rng(0).normal(size=(n, SIDE, SIDE)), (0, 4, 4))
    thumbnails = (127.5 + 127.4 * noise / np.abs(noise).max(axis=(1, 2), keepdims=True)).astype(np.uint8)
    names = [f"{i}.jpg" for i in range(n)]
    return AuditTable(
        names, splits, labels or ["glioma"] * n, [f"digest {i}" for i in range(n)], thumbnails, [None] * n
    )


def halves(n: int) -> list[str]:
    return ["train"] * (n // 2) + ["test"] * (n - n // 2)


def plant(table: AuditTable, original: int, copy: int, mirrored: bool = False) -> None:
    image = table.thumbnails[original]
    table.thumbnails[copy] = image[:, ::-1] if mirrored else image


def test_a_set_without_leaks_reports_none() -> None:
    report = audit(table_of(20, halves(20)))
    assert report["splits"]["test"] == {"images": 10, "labels": {"glioma": 10}}
    assert all(counts["pairs"] == 0 for kind in ("identical_files", "twins") for counts in report[kind].values())
    assert report["test_with_twin"] == report["different_labels"] == report["worst_pairs"] == []
    assert report["clusters"] == {"count": 0, "largest": 1}
    assert headline(report).startswith("Leakage: 0 of 10 test images (0.0%)")


def test_what_is_published_of_an_audit_holds_no_name_of_a_file_and_every_count() -> None:
    table = table_of(20, halves(20), ["glioma"] * 10 + ["meningioma"] * 10)
    table.file_names = [f"train/glioma/Jane Doe/{i}.jpg" for i in range(20)]
    table.patient_groups = ["Jane Doe"] * 20
    table.findings = ["ct" if i == 3 else None for i in range(20)]
    plant(table, 3, 15)
    report = audit(table)
    published = without_names(report, dict(zip(table.file_names, table.digests, strict=True)))
    assert "Jane" in json.dumps(report) and "Jane" not in json.dumps(published)
    assert published["test_with_twin"] == ["digest 15"]
    assert [pair["labels"] for pair in published["different_labels"]] == [["glioma", "meningioma"]]
    assert len(published["review"]["unlisted_twins"]) == 1
    changed = {"test_with_twin", "different_labels", "review", "worst_pairs"}
    assert {k: v for k, v in report.items() if k not in changed} == {
        k: v for k, v in published.items() if k not in changed
    }


def test_a_mirrored_test_image_in_train_is_found_and_named() -> None:
    table = table_of(20, halves(20))
    plant(table, 3, 15, mirrored=True)
    report = audit(table)
    found = report["twins"]["train/test"]
    assert found["pairs"] == 1
    assert found["images"] == {"train": 1, "test": 1}
    assert found["orientations"] == {"mirrored": 1}
    assert found["mirrored_share"] == 1.0
    assert report["test_with_twin"] == ["15.jpg"]
    assert report["test_with_identical_file"] == 0
    assert headline(report).startswith("Leakage: 1 of 10 test images (10.0%) have a twin in training, 0 of them")


def test_each_pair_of_splits_counts_its_own_twins() -> None:
    table = table_of(30, ["train"] * 10 + ["validation"] * 10 + ["test"] * 10)
    for original, copy in ((0, 1), (2, 12), (13, 23), (4, 24), (4, 25), (28, 29)):
        plant(table, original, copy)
    report = audit(table)
    counted = {key: (counts["pairs"], *counts["images"].values()) for key, counts in report["twins"].items()}
    assert counted == {
        "train/train": (1, 2),
        "train/validation": (1, 1, 1),
        "train/test": (2, 1, 2),
        "validation/validation": (0, 0),
        "validation/test": (1, 1, 1),
        "test/test": (2, 4),  # 24 and 25 are twins of each other, too
    }
    assert report["test_with_twin"] == ["23.jpg", "24.jpg", "25.jpg"]  # a twin in test alone is no leak
    assert report["clusters"] == {"count": 5, "largest": 3}


def test_identical_files_are_told_from_near_duplicates() -> None:
    table = table_of(20, halves(20))
    plant(table, 0, 11)
    plant(table, 1, 12)
    table.digests[11] = table.digests[0]
    report = audit(table)
    assert report["identical_files"]["train/test"] == {"pairs": 1, "images": {"train": 1, "test": 1}}
    assert report["twins"]["train/test"]["pairs"] == 2
    assert report["test_with_identical_file"] == 1


def test_a_patient_on_both_sides_is_reported() -> None:
    table = table_of(8, halves(8))
    table.patient_groups = ["A", "A", "B", None, "A", "C", "A", None]
    report = audit(table)
    assert report["patients"] == {
        "known": 6,
        "groups": 3,
        "across": {"train/test": {"groups": 1, "images": {"train": 2, "test": 2}}},
    }
    assert (report["test_with_known_patient"], report["test_with_seen_patient"]) == (3, 2)
    assert headline(report).endswith("; of the 3 whose patient is known, 2 are of a patient in training.")


def test_twins_with_different_labels_are_named_and_come_first() -> None:
    labels = ["glioma"] * 20
    labels[7] = "no_tumor"
    table = table_of(20, halves(20), labels)
    plant(table, 0, 10)
    plant(table, 6, 7, mirrored=True)
    plant(table, 4, 5)
    report = audit(table)
    (pair,) = report["different_labels"]
    assert pair["images"] == ["6.jpg", "7.jpg"]
    assert pair["labels"] == ["glioma", "no_tumor"]
    assert pair["orientation"] == "mirrored"
    assert [p["images"][0] for p in report["worst_pairs"]] == ["6.jpg", "0.jpg", "4.jpg"]
    assert headline(report).endswith("Twins with different labels: 1.")


def test_a_folder_without_splits_reports_twins_within() -> None:
    table = table_of(10, ["all"] * 10)
    plant(table, 2, 6)
    assert "2 of 10 images have a twin" in headline(audit(table))


def test_the_threshold_decides_what_a_twin_is() -> None:
    table = table_of(6, halves(6))
    mixed = 0.8 * table.thumbnails[0].astype(float) + 0.2 * table.thumbnails[1]
    table = replace(table, thumbnails=np.concatenate([table.thumbnails[:5], mixed.astype(np.uint8)[None]]))
    assert audit(table, threshold=0.9)["test_with_twin"] == ["5.jpg"]
    assert audit(table, threshold=0.999)["test_with_twin"] == []
    with pytest.raises(ConfigError):
        audit(table, threshold=2.0)


def save(folder: Path, name: str, image: Image.Image, **options: int) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    image.save(folder / name, **options)


@pytest.fixture
def leaky_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    for label in ("glioma", "no_tumor"):
        for split, seeds in (("Training", range(4)), ("Testing", range(4, 7))):
            for seed in seeds:
                save(folder, f"{split}/{label}/{seed}.png", draw_phantom(label, 10 * seed, size=128).image)
    original = Image.open(folder / "Training/glioma/0.png").convert("L")
    save(folder, "Testing/glioma/leak.jpg", ImageOps.mirror(original).resize((100, 100)), quality=60)
    groups = "Training/glioma/1.png,A\nTesting/glioma/4.png,A\n"
    (folder / "patients.csv").write_text("file_name,patient_group\n" + groups)
    return folder


@pytest.mark.parametrize("processes", [1, 2])
def test_a_leak_planted_in_files_is_reported(
    leaky_folder: Path, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auditing, "_FEW_IMAGES", 2)
    report, table = audit_folder(leaky_folder, processes)
    assert len(table) == report["images"] == 15
    assert report["test_with_twin"] == ["Testing/glioma/leak.jpg"]
    assert report["twins"]["train/test"]["orientations"] == {"mirrored": 1}
    assert report["patients"]["across"]["train/test"]["groups"] == 1


def test_the_command_writes_the_report_and_the_picture(leaky_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = leaky_folder.parent / "audit"
    main([str(leaky_folder), "--output", str(output)])
    report = json.loads((output / "audit.json").read_text())
    assert report["test_with_twin"] == ["Testing/glioma/leak.jpg"]
    with Image.open(output / "worst_pairs.png") as picture:
        assert picture.size[0] > 300
    printed = capsys.readouterr().out
    assert headline(report) in printed
    assert "twins train/test" in printed


def test_every_unreadable_image_is_named_in_one_error(leaky_folder: Path) -> None:
    (leaky_folder / "Training/glioma/text.jpg").write_text("not a picture")
    whole = (leaky_folder / "Testing/glioma/leak.jpg").read_bytes()
    (leaky_folder / "Testing/glioma/leak.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="2 problems") as error:
        audit_folder(leaky_folder)
    assert "Training/glioma/text.jpg" in str(error.value)
    assert "Testing/glioma/leak.jpg" in str(error.value)


def test_no_process_to_read_with_is_an_error(leaky_folder: Path) -> None:
    with pytest.raises(ConfigError, match="1 or more"):
        audit_folder(leaky_folder, processes=0)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs /proc")
def test_a_folder_of_special_files_and_links_ends_soon_in_one_sentence(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(DataError) as error:
        main(["/proc/self", "--output", str(tmp_path / "out")])
    assert "\n" not in str(error.value) and str(error.value).endswith(".") and time.monotonic() - started < 20
    assert not (tmp_path / "out").exists()


def test_images_are_not_read_where_more_is_wrong_than_can_be_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auditing, "_read", lambda file: pytest.fail("an image was read"))
    for name in ("glioma", "no_tumor"):
        (tmp_path / name).mkdir()
        draw_phantom(name, 1).image.save(tmp_path / name / "1.png")
    for k in range(60):
        (tmp_path / "glioma" / f"{k}.bin").write_bytes(b"x")
    with pytest.raises(DataError):
        audit_folder(tmp_path)
