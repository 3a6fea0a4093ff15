from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from datasets import DatasetDict
from PIL import Image

from brain_mri.arguments import DataArguments, RecipeArguments
from brain_mri.data.grafts import graft_of, is_graft
from brain_mri.data.prepare import PreparedImages, prepare_images, split_images
from brain_mri.data.training_images import DRAW_GROUP, training_images
from brain_mri.data.transforms import Preprocessing


@pytest.fixture(scope="module")
def args(phantoms: Path) -> DataArguments:
    return DataArguments(data_dir=str(phantoms))


@pytest.fixture(scope="module")
def images(args: DataArguments, preprocessing: Preprocessing) -> PreparedImages:
    return prepare_images(args, preprocessing)


def test_a_recipe_without_grafts_trains_on_the_splits_as_they_are(
    images: PreparedImages, splits: DatasetDict, args: DataArguments
) -> None:
    assert training_images(images, splits, args, RecipeArguments(), 32, 1) is splits


def test_grafts_are_trained_on_and_nothing_else_is_touched(
    images: PreparedImages, splits: DatasetDict, args: DataArguments
) -> None:
    seen = training_images(images, splits, args, RecipeArguments(grafts=0.3), 32, 1)
    assert len(seen["train"]) > len(splits["train"])
    for split in ("validation", "test"):
        assert seen[split] is splits[split] and not any(map(is_graft, seen[split]["file_name"]))


def test_slices_of_a_patient_are_one_group(images: PreparedImages, splits: DatasetDict, args: DataArguments) -> None:
    seen = training_images(images, splits, args, RecipeArguments(grafts=0.3, draw_by="patient"), 32, 1)["train"]
    patients, groups, n = splits["train"]["patient_group"][:], seen[DRAW_GROUP][:], len(splits["train"])
    assert len(set(groups[:n])) == len(set(zip(patients, groups[:n], strict=True))) <= len(set(patients))
    assert not set(groups[n:]) & set(groups[:n])


def test_grafts_of_one_kind_class_and_host_are_one_group(
    images: PreparedImages, splits: DatasetDict, args: DataArguments
) -> None:
    seen = training_images(images, splits, args, RecipeArguments(grafts=1, draw_by="cluster"), 32, 1)["train"]
    n = len(splits["train"])
    group_of = dict(zip(seen["file_name"][:n], seen[DRAW_GROUP][:n], strict=True))
    rows = seen.select(range(n, len(seen)))
    keys = [
        (kind, group_of[host], label)
        for (kind, host, _), label in zip(map(graft_of, rows["file_name"]), rows["label"], strict=True)
    ]
    assert len(set(keys)) < len(keys)
    assert len(set(zip(keys, rows[DRAW_GROUP], strict=True))) == len(set(keys)) == len(set(rows[DRAW_GROUP]))


def test_near_duplicates_are_one_group(phantoms: Path, tmp_path: Path, preprocessing: Preprocessing) -> None:
    shutil.copytree(phantoms / "train", tmp_path / "train")
    for path in sorted(tmp_path.glob("train/*/*.png")):
        Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path.with_name(f"mirrored_{path.name}"))
    args = DataArguments(data_dir=str(tmp_path))
    images = prepare_images(args, preprocessing)
    seen = training_images(images, split_images(images, args), args, RecipeArguments(draw_by="cluster"), 32, 1)["train"]
    group = {Path(name).name: number for name, number in zip(seen["file_name"], seen[DRAW_GROUP], strict=True)}
    assert all(group[name] == group[f"mirrored_{name}"] for name in group if not name.startswith("mirrored_"))
    assert len(set(group.values())) == len(group) / 2


def test_a_stream_is_not_grafted_and_is_drawn_as_it_comes_and_it_is_said(
    images: PreparedImages, splits: DatasetDict, args: DataArguments, caplog: pytest.LogCaptureFixture
) -> None:
    streamed = replace(args, streaming=True)
    for recipe in (RecipeArguments(grafts=0.1), RecipeArguments(lesions=0.1), RecipeArguments(draw_by="cluster")):
        caplog.clear()
        assert training_images(images, splits, streamed, recipe, 32, 1) is splits
        assert len(caplog.records) == 1
