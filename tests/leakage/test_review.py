from __future__ import annotations

import numpy as np
import pytest

from brain_mri.data.duplicates import clusters, near_duplicate_pairs, thumbnail
from brain_mri.data.image_table import AuditTable
from brain_mri.leakage.audit import audit
from brain_mri.leakage.report import format_table
from brain_mri.leakage.review import count_distinct, distinct_pictures, odd_greys, review_report
from brain_mri.phantom.dataset import draw_phantom


@pytest.fixture(scope="module")
def table() -> AuditTable:
    """20 healthy phantoms and 6 gliomas; healthy image 3 has three more copies, of them 4 mirrored; 19 is inverted."""
    pictures = [thumbnail(draw_phantom("no_tumor", 10 * i, size=96).image) for i in range(20)]
    pictures[4], pictures[5], pictures[6] = pictures[3][:, ::-1], pictures[3], pictures[3]
    pictures[19] = 255 - pictures[19]
    pictures += [thumbnail(draw_phantom("glioma", 10 * i, size=96).image) for i in range(6)]
    n = len(pictures)
    return AuditTable(
        file_names=[f"{'test' if i % 2 else 'train'}/{i}.png" for i in range(n)],
        splits=["test" if i % 2 else "train" for i in range(n)],
        labels=["no_tumor"] * 20 + ["glioma"] * 6,
        digests=[str(i) for i in range(n)],
        thumbnails=np.stack(pictures),
        patient_groups=[None] * n,
        findings=[{3: "ct", 4: "ct", 19: "lesion"}.get(i) for i in range(n)],
    )


def test_each_distinct_picture_is_there_once_the_most_copied_first(table: AuditTable) -> None:
    groups = clusters(len(table), near_duplicate_pairs(table.thumbnails))
    pictures = distinct_pictures(table, groups)
    assert list(pictures) == ["glioma", "no_tumor"]
    assert pictures["no_tumor"][0].images == (3, 4, 5, 6) and len(pictures["no_tumor"]) == 17
    for label, found in pictures.items():
        images = [i for picture in found for i in picture.images]
        assert sorted(images) == [i for i, name in enumerate(table.labels) if name == label]
        assert [picture.number for picture in found] == list(range(1, len(found) + 1))
        assert sorted(picture.outlier_rank for picture in found) == list(range(1, len(found) + 1))
    assert count_distinct(table, groups)["no_tumor"] == {"images": 20, "pictures": 17, "largest": 4}


def test_a_picture_of_other_greys_is_the_first_outlier_of_its_class(table: AuditTable) -> None:
    groups = clusters(len(table), near_duplicate_pairs(table.thumbnails))
    first = min(distinct_pictures(table, groups)["no_tumor"], key=lambda picture: picture.outlier_rank)
    assert first.images == (19,)
    assert np.isfinite(odd_greys(table.thumbnails[:1])).all(), "a class of one picture"


def test_a_review_is_counted_and_its_unlisted_copies_are_named(table: AuditTable) -> None:
    report = audit(table)
    review = report["review"]
    assert review["images"] == 3
    assert review["counts"] == {"train": {"no_tumor": {"ct": 1}}, "test": {"no_tumor": {"ct": 1, "lesion": 1}}}
    assert [(twin["image"], twin["finding"]) for twin in review["unlisted_twins"]] == [
        ("test/5.png", "ct"),
        ("train/6.png", "ct"),
    ]
    text = format_table(report)
    assert "no_tumor: 17 distinct pictures in 20 images, the most copies 4" in text
    assert "no_tumor: 1 ct, 1 lesion" in text and "test/5.png (like" in text


def test_without_a_review_the_audit_says_that_there_is_none(table: AuditTable) -> None:
    table = AuditTable(**(vars(table) | {"findings": []}))
    assert review_report(table, near_duplicate_pairs(table.thumbnails))["images"] == 0
    report = audit(table)
    assert "review" not in report and "no review.csv" in format_table(report)
