"""What the audit finds in the Kaggle set, which it reads once for all of these tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from brain_mri.data.duplicates import clusters, near_duplicate_pairs
from brain_mri.data.image_table import AuditTable
from brain_mri.leakage.audit import audit_folder
from brain_mri.leakage.review import distinct_pictures


@pytest.fixture(scope="module")
def kaggle(real_data: Path) -> tuple[dict[str, Any], AuditTable]:
    return audit_folder(real_data / "brain-tumor-mri")


@pytest.mark.slow
def test_the_kaggle_set_leaks_as_known_from_its_patients(kaggle: tuple[dict[str, Any], AuditTable]) -> None:
    report, table = kaggle
    assert {split: counts["images"] for split, counts in report["splits"].items()} == {"train": 5712, "test": 1311}
    assert report["test_with_identical_file"] == 103
    assert (report["test_with_seen_patient"], report["test_with_known_patient"]) == (716, 717)
    assert 950 < len(report["test_with_twin"]) < 1050
    assert report["clusters"]["largest"] < 100
    patient = dict(zip(table.file_names, table.patient_groups, strict=True))
    for pair in report["different_labels"]:
        assert len({patient[name] for name in pair["images"]} - {None}) <= 1


@pytest.mark.slow
def test_of_the_healthy_images_of_the_kaggle_set_the_odd_greys_find_the_ct_and_not_the_lesions(
    kaggle: tuple[dict[str, Any], AuditTable],
) -> None:
    report, table = kaggle
    assert report["review"]["counts"] == {
        "test": {"no_tumor": {"ct": 29, "lesion": 13}},
        "train": {"no_tumor": {"ct": 44, "lesion": 46}},
    }
    assert report["review"]["unlisted_twins"] == []
    assert report["distinct"]["no_tumor"] == {"images": 2000, "pictures": 406, "largest": 58}
    pictures = distinct_pictures(table, clusters(len(table), near_duplicate_pairs(table.thumbnails)))["no_tumor"]
    ranked = sorted(pictures, key=lambda picture: picture.outlier_rank)
    findings = [{table.findings[i] for i in picture.images} for picture in ranked]
    first = {n: [sum(name in found for found in findings[:n]) for name in ("ct", "lesion")] for n in (25, 50, 100, 406)}
    assert first == {25: [13, 0], 50: [16, 3], 100: [18, 5], 406: [19, 12]}
