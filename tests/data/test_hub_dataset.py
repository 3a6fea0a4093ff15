from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
from datasets.utils import are_progress_bars_disabled
from PIL import Image
from support.small_training import training_arguments

from brain_mri.arguments import DataArguments
from brain_mri.data.prepare import PreparedImages, prepare_images, split_images
from brain_mri.data.streaming import open_stream
from brain_mri.data.transforms import Preprocessing
from brain_mri.errors import DataError

_LABELS = ["Glioma", "healthy"] * 6


def _png(seed: int) -> bytes:
    buffer = io.BytesIO()
    values = np.random.default_rng(seed).integers(0, 255, (24, 24)).astype(np.uint8)
    Image.fromarray(values).save(buffer, "PNG")
    return buffer.getvalue()


def _shards(folder: Path, labels: str | None = "label", **columns: object) -> Path:
    """Parquet as pandas writes it: images as bytes, labels as strings, nothing said of either."""
    folder.mkdir(exist_ok=True)
    for k, split in enumerate(("train", "validation")):
        images = pa.array([_png(100 * k + i) for i in range(len(_LABELS))], pa.binary())
        table = {"image": images} | ({labels: _LABELS} if labels else {}) | columns
        pq.write_table(pa.table(table), folder / f"{split}-00000-of-00001.parquet")
    return folder


def _prepare(folder: Path, preprocessing: Preprocessing, **options: str) -> PreparedImages:
    return prepare_images(DataArguments(data_dir=str(folder), **options), preprocessing)


def test_labels_may_be_strings_and_images_bytes(tmp_path: Path, preprocessing: Preprocessing) -> None:
    images = _prepare(_shards(tmp_path / "set"), preprocessing)
    assert images.label_names == ("glioma", "no_tumor")
    assert images.rows["label"][:] == [0, 1] * 12


def test_nothing_is_said_to_be_downloaded_from_a_folder_on_this_disk(
    tmp_path: Path, preprocessing: Preprocessing, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    bars = sys.modules["datasets.utils.tqdm"]
    monkeypatch.setattr(bars, "HF_DATASETS_DISABLE_PROGRESS_BARS", None)
    monkeypatch.setattr(bars, "_hf_datasets_progress_bars_disabled", False)
    _prepare(_shards(tmp_path / "set"), preprocessing)
    said = capfd.readouterr().err
    assert "Downloading" not in said and "Reading images: 100%" in said
    assert not are_progress_bars_disabled()


def test_a_stream_of_strings_gives_the_labels_of_a_folder(tmp_path: Path, preprocessing: Preprocessing) -> None:
    data = DataArguments(data_dir=str(_shards(tmp_path / "set")), streaming=True, shuffle_buffer=4)
    images = prepare_images(data, preprocessing)
    stream = open_stream(data, training_arguments(tmp_path / "run"), 0, preprocessing, images)
    assert sorted(row["label"] for row in stream) == [0] * 6 + [1] * 6
    assert "train" not in split_images(images, data)


def test_columns_of_other_names_can_be_said(tmp_path: Path, preprocessing: Preprocessing) -> None:
    folder = _shards(tmp_path / "set", label=["x"] * len(_LABELS), tumour=_LABELS, other=_LABELS)
    images = _prepare(folder, preprocessing, label_column="tumour", image_column="image")
    assert images.label_names == ("glioma", "no_tumor")
    with pytest.raises(DataError, match="--label_column typo: the columns are image, label, tumour, other"):
        _prepare(folder, preprocessing, label_column="typo")


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"label": [0, 1] * 6}, r"the labels in label are no names .*ClassLabel"),
        ({"label": ["yes", None] * 6}, "a row has no label"),
        ({"label": [0] * 12, "diagnosis": ["a", "b"] * 6, "target": ["a", "b"] * 6}, "diagnosis and target may be"),
    ],
)
def test_a_column_of_labels_that_can_not_be_used_is_named(
    tmp_path: Path, preprocessing: Preprocessing, columns: dict[str, object], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        _prepare(_shards(tmp_path / "set", **columns), preprocessing)


def test_a_set_without_a_column_of_labels_is_told_so(tmp_path: Path, preprocessing: Preprocessing) -> None:
    with pytest.raises(DataError, match=r"none of its columns \(image, grade\).*--label_column"):
        _prepare(_shards(tmp_path / "set", None, grade=[0, 1] * 6), preprocessing)
