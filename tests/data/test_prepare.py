from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import ViTImageProcessor

from brain_mri.arguments import DataArguments
from brain_mri.data.duplicates import thumbnail
from brain_mri.data.image_folder import scan_folder
from brain_mri.data.prepare import PreparedImages, fingerprint, prepare_images, split_images
from brain_mri.data.splits import left_out
from brain_mri.data.transforms import Preprocessing, unpack
from brain_mri.errors import DataError
from brain_mri.labels import LABELS


@pytest.fixture(scope="module")
def preprocessing() -> Preprocessing:
    return Preprocessing.of(ViTImageProcessor(size={"height": 32, "width": 32}))


def _prepare(folder: Path, preprocessing: Preprocessing) -> PreparedImages:
    return prepare_images(DataArguments(data_dir=str(folder)), preprocessing)


def test_phantoms_become_rows_with_labels_patients_and_pixels(phantoms: Path, preprocessing: Preprocessing) -> None:
    images = _prepare(phantoms, preprocessing)
    assert images.label_names == LABELS
    assert Counter(images.rows["split"]) == {"train": 48, "test": 24}
    for row in images.rows.select(range(0, 72, 9)):
        assert images.label_names[row["label"]] in row["file_name"]
        assert row["patient_group"]
        expected = preprocessing.pixels(Image.open(phantoms / row["file_name"]).convert("RGB"))
        assert np.array_equal(unpack(row["pixels"], 32), expected)


def test_thumbnails_are_read_by_slices_and_by_indices_as_if_all_were_in_memory(
    phantoms: Path, preprocessing: Preprocessing
) -> None:
    images = _prepare(phantoms, preprocessing)
    files = [phantoms / name for name in images.rows["file_name"][:]]
    expected = np.stack([thumbnail(Image.open(file).convert("RGB")) for file in files])
    some = np.array([70, 3, 3, 41])
    assert len(images.thumbnails) == len(expected)
    assert not isinstance(images.thumbnails, np.ndarray), "all of them would lie in memory"
    assert np.array_equal(images.thumbnails[:], expected)
    assert np.array_equal(images.thumbnails[60:2000], expected[60:])
    assert np.array_equal(images.thumbnails[some], expected[some])


def test_the_validation_split_keeps_patients_whole(phantoms: Path, preprocessing: Preprocessing) -> None:
    splits = split_images(_prepare(phantoms, preprocessing), DataArguments(data_dir=str(phantoms)))
    train, validation = (set(splits[split]["patient_group"]) for split in ("train", "validation"))
    assert not train & validation
    assert len(splits["train"]) + len(splits["validation"]) == 48 and 8 <= len(splits["validation"]) <= 12
    assert set(splits["validation"]["label"]) == {0, 1, 2, 3}


def test_the_last_stage_may_train_on_validation_but_never_on_test(phantoms: Path, preprocessing: Preprocessing) -> None:
    args = DataArguments(data_dir=str(phantoms), train_on_validation=True)
    splits = split_images(_prepare(phantoms, preprocessing), args)
    names = {split: set(rows["file_name"]) for split, rows in splits.items()}
    assert len(splits["train"]) == len(names["train"]) == 48
    assert names["validation"] < names["train"] and not names["test"] & names["train"]


def test_fewer_images_to_learn_from_leave_the_test_as_it_is(phantoms: Path, preprocessing: Preprocessing) -> None:
    images = _prepare(phantoms, preprocessing)
    args = DataArguments(data_dir=str(phantoms), max_train_samples=12, max_eval_samples=4)
    whole, fewer = split_images(images, DataArguments(data_dir=str(phantoms))), split_images(images, args)
    assert [len(fewer[split]) for split in ("train", "validation")] == [12, 4]
    for split, rows in fewer.items():
        assert set(rows["label"][:]) == set(range(4)) and set(rows["file_name"][:]) <= set(whole[split]["file_name"][:])
    assert fewer["test"]["file_name"][:] == whole["test"]["file_name"][:]


@pytest.mark.parametrize("train_on_validation", [False, True])
def test_reviewed_images_are_tested_and_never_learned_from(
    reviewed: Path, phantoms: Path, preprocessing: Preprocessing, train_on_validation: bool
) -> None:
    args = DataArguments(data_dir=str(reviewed), train_on_validation=train_on_validation)
    images = _prepare(reviewed, preprocessing)
    splits = split_images(images, args)
    assert not any(splits["train"]["finding"]) and not any(splits["validation"]["finding"])
    assert Counter(filter(None, splits["test"]["finding"])) == {"ct": 2} and len(splits["test"]) == 24
    assert left_out(images.rows, splits) == {"ct": 1, "lesion": 2}
    before = split_images(_prepare(phantoms, preprocessing), args)
    listed = set(scan_folder(reviewed).findings())
    for name in ("train", "validation"):
        assert set(splits[name]["file_name"]) == set(before[name]["file_name"]) - listed, "no other image moves"


def test_a_review_that_empties_a_class_is_refused(phantoms: Path, tmp_path: Path, preprocessing: Preprocessing) -> None:
    folder = shutil.copytree(phantoms, tmp_path / "reviewed")
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.glob("train/no_tumor/*.png"))]
    (folder / "review.csv").write_text("file_name,finding\n" + "".join(f"{name},ct\n" for name in names))
    with pytest.raises(DataError, match="every train image of the class no_tumor has a finding"):
        split_images(_prepare(folder, preprocessing), DataArguments(data_dir=str(folder)))


def test_a_planted_copy_stays_with_its_original(phantoms: Path, tmp_path: Path, preprocessing: Preprocessing) -> None:
    folder = tmp_path / "copies"
    shutil.copytree(phantoms / "train", folder)
    for path in sorted(folder.glob("*/*.png")):
        Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path.with_name(f"mirrored_{path.name}"))
    splits = split_images(_prepare(folder, preprocessing), DataArguments(data_dir=str(folder), split_seed=3))
    where = {Path(name).name: split for split, rows in splits.items() for name in rows["file_name"]}
    assert set(splits) == {"train", "validation", "test"} and all(len(rows) for rows in splits.values())
    for name, split in where.items():
        if not name.startswith("mirrored_"):
            assert where[f"mirrored_{name}"] == split


def test_a_flat_yes_no_folder_gets_three_splits(phantoms: Path, tmp_path: Path, preprocessing: Preprocessing) -> None:
    shutil.copytree(phantoms / "train" / "glioma", tmp_path / "yes")
    shutil.copytree(phantoms / "train" / "no_tumor", tmp_path / "no")
    images = _prepare(tmp_path, preprocessing)
    assert images.label_names == ("no", "yes")
    splits = split_images(images, DataArguments(data_dir=str(tmp_path)))
    assert sum(len(rows) for rows in splits.values()) == 24
    assert all(set(rows["label"]) == {0, 1} for rows in splits.values())


def test_sartaj_style_folders_are_understood(phantoms: Path, tmp_path: Path, preprocessing: Preprocessing) -> None:
    for split, name in (("train", "Training"), ("test", "Testing")):
        for label in LABELS:
            folder = label if label == "no_tumor" else f"{label}_tumor"
            shutil.copytree(phantoms / split / label, tmp_path / name / folder)
    images = _prepare(tmp_path, preprocessing)
    assert images.label_names == LABELS
    assert Counter(images.rows["split"]) == {"train": 48, "test": 24}


def test_everything_that_is_broken_is_named_in_one_error(
    phantoms: Path, tmp_path: Path, preprocessing: Preprocessing
) -> None:
    shutil.copytree(phantoms / "train", tmp_path / "train")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8))
    image.save(tmp_path / "train" / "glioma" / "half.jpg")
    half = (tmp_path / "train" / "glioma" / "half.jpg").read_bytes()[:1500]
    (tmp_path / "train" / "glioma" / "half.jpg").write_bytes(half)
    (tmp_path / "train" / "pituitary" / "text.jpg").write_text("not a picture")
    (tmp_path / "train" / "metastasis").mkdir()
    with pytest.raises(DataError) as error:
        _prepare(tmp_path, preprocessing)
    message = str(error.value)
    assert "3 problems" in message
    for offender in ("train/glioma/half.jpg: broken", "train/pituitary/text.jpg: not a picture", "train/metastasis/"):
        assert offender in message


def test_a_dataset_as_the_hub_stores_it_gives_the_same_pixels(
    phantoms: Path, tmp_path: Path, preprocessing: Preprocessing
) -> None:
    folder = _prepare(phantoms, preprocessing)
    (tmp_path / "data").mkdir()
    for split in ("train", "test"):
        rows = datasets.load_dataset("imagefolder", data_dir=str(phantoms / split), split="train")
        rows.to_parquet(tmp_path / "data" / f"{split}-00000-of-00001.parquet")
    hub = _prepare(tmp_path, preprocessing)
    assert hub.label_names == folder.label_names
    assert Counter(hub.rows["split"]) == Counter(folder.rows["split"])
    assert sorted(hub.rows["pixels"]) == sorted(folder.rows["pixels"])


def test_images_of_a_hub_dataset_that_share_a_name_stay_apart(
    phantoms: Path, tmp_path: Path, preprocessing: Preprocessing
) -> None:
    """Parquet keeps `0.png`, not `glioma/0.png`, and such names recur in every class and split."""
    kinds = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(LABELS))})
    for split in ("train", "test"):
        of_class = {label: sorted((phantoms / split / label).iterdir()) for label in LABELS}
        images = [
            {"bytes": p.read_bytes(), "path": f"{i}.png"} for paths in of_class.values() for i, p in enumerate(paths)
        ]
        labels = [label for label, paths in of_class.items() for _ in paths]
        rows = datasets.Dataset.from_dict({"image": images, "label": labels}, features=kinds)
        rows.to_parquet(tmp_path / f"{split}-00000-of-00001.parquet")
    assert len(set(_prepare(tmp_path, preprocessing).rows["file_name"])) == 72


def test_reading_images_leaves_torch_its_threads(phantoms: Path, tmp_path: Path, preprocessing: Preprocessing) -> None:
    shutil.copytree(phantoms, tmp_path / "new")  # its own paths, so read anew
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        _prepare(tmp_path / "new", preprocessing)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)


def test_a_table_among_the_images_is_no_business_of_ours(
    phantoms: Path, tmp_path: Path, preprocessing: Preprocessing
) -> None:
    shutil.copytree(phantoms, tmp_path / "more")
    (tmp_path / "more" / "train" / "glioma" / "metadata.csv").write_text("anything,at,all\n1,2,3\n")
    assert len(_prepare(tmp_path / "more", preprocessing)) == 72


def test_what_is_neither_a_folder_nor_on_the_hub_is_said(preprocessing: Preprocessing) -> None:
    with pytest.raises(DataError, match="neither a folder here nor a dataset"):
        _prepare(Path("nobody/nothing"), preprocessing)


def test_a_folder_without_a_train_split_cannot_be_trained_on(
    phantoms: Path, tmp_path: Path, preprocessing: Preprocessing
) -> None:
    shutil.copytree(phantoms / "test", tmp_path / "test")
    images = _prepare(tmp_path, preprocessing)
    with pytest.raises(DataError, match="no train split"):
        split_images(images, DataArguments(data_dir=str(tmp_path)))


def test_the_fingerprint_knows_a_changed_image(phantoms: Path, tmp_path: Path, preprocessing: Preprocessing) -> None:
    shutil.copytree(phantoms, tmp_path / "copy")
    before = fingerprint(_prepare(tmp_path / "copy", preprocessing))
    assert before == fingerprint(_prepare(phantoms, preprocessing))
    path = next((tmp_path / "copy" / "train" / "glioma").iterdir())
    Image.open(path).rotate(5).save(path)
    assert before != fingerprint(_prepare(tmp_path / "copy", preprocessing))


@pytest.mark.slow
def test_the_kaggle_set_is_5712_and_1311_ready_images(real_data: Path, preprocessing: Preprocessing) -> None:
    images = _prepare(real_data / "brain-tumor-mri", preprocessing)
    assert Counter(images.rows["split"]) == {"train": 5712, "test": 1311}
    splits = split_images(images, DataArguments(data_dir=str(real_data)))
    groups = [{g for g in splits[s]["patient_group"] if g} for s in ("train", "validation")]
    assert len(groups[0]) > 100 and not groups[0] & groups[1]
    assert 0.19 < len(splits["validation"]) / 5712 < 0.21
