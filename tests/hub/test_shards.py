from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from datasets import Image, load_dataset
from huggingface_hub import DatasetCard

from brain_mri.arguments import DataArguments, ModelArguments
from brain_mri.data.image_folder import scan_folder
from brain_mri.data.prepare import fingerprint, prepare_images
from brain_mri.data.transforms import Preprocessing
from brain_mri.errors import ConfigError, DataError
from brain_mri.hub.shards import write_shards
from brain_mri.models.build import build_config, build_processor


@pytest.fixture(scope="module")
def shards(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("shards") / "set"
    write_shards(phantoms, target, "cc0-1.0", "drawn by a program", shard_bytes=30_000)
    return target


def test_a_run_reads_from_shards_what_it_reads_from_the_folder(phantoms: Path, shards: Path) -> None:
    args = ModelArguments("timm/resnet18.a1_in1k", pretrained=False, image_size=32)
    preprocessing = Preprocessing.of(build_processor(build_config(args), args))
    folder, hub = (prepare_images(DataArguments(data_dir=str(path)), preprocessing) for path in (phantoms, shards))
    assert hub.label_names == folder.label_names
    assert fingerprint(hub) == fingerprint(folder), "names, files and labels are the same"
    by_name = [{row["file_name"]: row for row in images.rows.remove_columns(["thumbnail"])} for images in (folder, hub)]
    for name, row in by_name[0].items():
        found = by_name[1][name]
        for column in ("pixels", "label", "split", "patient_group", "digest", "shortcut"):
            assert found[column] == row[column], (name, column)
        assert found["box"] == pytest.approx(row["box"], abs=1e-6, nan_ok=True)


def test_findings_travel_with_the_shards(reviewed: Path, tmp_path: Path) -> None:
    write_shards(reviewed, tmp_path / "set", "cc0-1.0", "x")
    found = {
        name: dict(zip(*(_column(tmp_path / "set", name, c) for c in ("file_name", "finding")), strict=True))
        for name in ("train", "test")
    }
    listed = {name: what for rows in found.values() for name, what in rows.items() if what}
    assert listed == scan_folder(reviewed).findings()
    card = DatasetCard.load(tmp_path / "set" / "README.md")
    assert "`finding` (of 5 images" in card.text


def test_images_are_cut_into_shards_byte_for_byte(phantoms: Path, shards: Path) -> None:
    files = sorted(path.name for path in (shards / "data").iterdir())
    assert len(files) > 4 and files[0].startswith("test-00000-of-0000")
    rows = load_dataset(str(shards), split="test").cast_column("image", Image(decode=False))
    for row in rows:
        assert row["image"]["bytes"] == (phantoms / row["file_name"]).read_bytes()
    assert len(rows) == len(list((phantoms / "test").rglob("*.png")))


def test_the_card_carries_licence_source_and_audit(phantoms: Path, shards: Path) -> None:
    card = DatasetCard.load(shards / "README.md")
    assert card.data.license == "cc0-1.0" and card.data.task_categories == ["image-classification"]
    assert "drawn by a program" in card.text and "never diagnosis" in card.text
    audit = json.loads((shards / "audit.json").read_text())
    assert audit["patients"]["known"] == 72
    assert "known for\n72 images" in card.text and "test images" in card.text.split("## Leakage audit")[1]


def test_nothing_is_overwritten_and_a_bad_folder_leaves_nothing(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is there already"):
        write_shards(shards, shards, "mit", "x")
    (tmp_path / "train" / "glioma").mkdir(parents=True)
    (tmp_path / "train" / "glioma" / "text.jpg").write_text("not a picture")
    with pytest.raises(DataError, match="not a picture"):
        write_shards(tmp_path, tmp_path / "out", "mit", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["train"]


def test_a_held_out_validation_split_shares_no_patient_and_no_twin_with_train(phantoms: Path, tmp_path: Path) -> None:
    report = write_shards(phantoms, tmp_path / "set", "cc0-1.0", "x", validation_fraction=0.25)
    held = report["splits"]["validation"]["images"]
    assert 10 <= held <= 14 and report["splits"]["train"]["images"] == 48 - held  # of whole patients, two images each
    assert min(report["splits"]["validation"]["labels"].values()) >= 2
    assert report["patients"]["across"]["train/validation"]["groups"] == 0
    assert report["twins"]["train/validation"]["pairs"] == 0
    assert json.loads((tmp_path / "set" / "audit.json").read_text()) == report
    names = {split: _column(tmp_path / "set", split, "file_name") for split in ("train", "validation", "test")}
    assert len(names["train"]) == 48 - held and len(names["validation"]) == held and len(names["test"]) == 24
    assert all(name.startswith("train/") for name in names["train"] + names["validation"])
    for wrong, said in ((0.0, "above 0"), (0.6, "at most 0.5")):
        with pytest.raises(ConfigError, match=said):
            write_shards(phantoms, tmp_path / "no", "mit", "x", validation_fraction=wrong)
    (tmp_path / "with").mkdir()
    for split in ("train", "valid"):
        (tmp_path / "with" / split).symlink_to(phantoms / ("train" if split == "train" else "test"))
    with pytest.raises(ConfigError, match="has a validation split"):
        write_shards(tmp_path / "with", tmp_path / "no", "mit", "x", validation_fraction=0.2)


def test_rows_are_mixed_and_shards_equal_and_the_same_every_time(phantoms: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_shards(phantoms, tmp_path / name, "cc0-1.0", "x", shard_bytes=60_000)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*"))
    assert [(tmp_path / "one" / f).read_bytes() for f in files] == [(tmp_path / "two" / f).read_bytes() for f in files]
    labels = _column(tmp_path / "one", "train", "label")
    changes = sum(a != b for a, b in itertools.pairwise(labels))
    assert changes > 20, "sorted by class there would be 3"
    rows = [pq.read_metadata(path).num_rows for path in sorted((tmp_path / "one" / "data").glob("train-*"))]
    assert len(rows) > 2 and max(rows) - min(rows) <= 3, rows


def _column(folder: Path, split: str, name: str) -> list[Any]:
    paths = sorted((folder / "data").glob(f"{split}-*.parquet"))
    return [value for path in paths for value in pq.read_table(path, columns=[name])[name].to_pylist()]
