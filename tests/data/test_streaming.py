from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import DatasetDict
from safetensors.torch import load_file
from support.doors import run_train
from support.small_training import small_trainer, training_arguments
from transformers import TrainingArguments

from brain_mri.arguments import DataArguments, RecipeArguments
from brain_mri.data.image_folder import scan_folder
from brain_mri.data.prepare import prepare_images, split_images
from brain_mri.data.streamed_split import StreamedSplit
from brain_mri.data.streaming import keep_record, known_images, open_stream
from brain_mri.data.transforms import Preprocessing
from brain_mri.errors import ConfigError, DataError
from brain_mri.hub.shards import write_shards
from brain_mri.training.trainer import MRITrainer

_ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def shards(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("streamed") / "set"
    write_shards(phantoms, target, "cc0-1.0", "x", shard_bytes=30_000, validation_fraction=0.25)
    assert len(list((target / "data").glob("train-*"))) >= 4
    return target


def _open(shards: Path, preprocessing: Preprocessing, training: TrainingArguments, **options: Any) -> DatasetDict:
    data = DataArguments(data_dir=str(shards), streaming=True, **({"shuffle_buffer": 16} | options))
    images = prepare_images(data, preprocessing)
    splits = split_images(images, data)
    splits["train"] = open_stream(data, training, 0, preprocessing, images)
    return splits


@pytest.fixture(scope="module")
def stream(shards: Path, preprocessing: Preprocessing, tmp_path_factory: pytest.TempPathFactory) -> StreamedSplit:
    train: StreamedSplit = _open(shards, preprocessing, training_arguments(tmp_path_factory.mktemp("run")))["train"]
    return train


def _divided(stream: StreamedSplit, **fields: Any) -> StreamedSplit:
    division = replace(stream.division, **fields)
    return StreamedSplit(stream._source, stream.sides, stream.preprocessing, division, stream.schema)


def _names(stream: StreamedSplit, epoch: int = 0) -> list[str]:
    stream.set_epoch(epoch)
    return [row["file_name"] for row in stream]


def test_an_epoch_of_the_stream_has_the_rows_that_a_folder_gives(
    stream: StreamedSplit, phantoms: Path, preprocessing: Preprocessing
) -> None:
    folder = prepare_images(DataArguments(data_dir=str(phantoms)), preprocessing).rows
    known = {row["file_name"]: row for row in folder}
    rows = list(stream)
    assert sorted(row["file_name"] for row in rows) == sorted(stream["file_name"]) and len(rows) == len(stream)
    for row in rows:
        expected = known[row["file_name"]]
        assert row["pixels"] == expected["pixels"] and row["label"] == expected["label"]
        assert row["box"] == pytest.approx(expected["box"], abs=1e-6, nan_ok=True)
    assert sorted(row["label"] for row in rows) == sorted(stream["label"])


@pytest.mark.parametrize(("rank", "workers"), [(0, 0), (1, 0), (0, 2)])
def test_reviewed_images_stay_out_of_the_stream_and_of_validation(
    reviewed: Path, preprocessing: Preprocessing, tmp_path: Path, rank: int, workers: int
) -> None:
    write_shards(reviewed, tmp_path / "set", "cc0-1.0", "x", shard_bytes=30_000, validation_fraction=0.25)
    splits = _open(tmp_path / "set", preprocessing, training_arguments(tmp_path))
    listed = set(scan_folder(reviewed).findings())
    assert not listed & set(splits["validation"]["file_name"])
    assert len(listed & set(splits["test"]["file_name"])) == 2
    assert len(splits["train"]) + len(splits["validation"]) == 48 - 3 and not listed & set(splits["train"]["file_name"])
    stream = _divided(splits["train"], rank=rank, processes=rank + 1, workers=workers)
    loader = torch.utils.data.DataLoader(stream, batch_size=8, num_workers=workers, collate_fn=list)
    names = [row["file_name"] for batch in loader for row in batch]
    assert len(names) == len(stream) and not listed & set(names)
    assert not listed & set(known_images(stream)["file_name"])


def test_each_epoch_has_its_own_order_and_the_same_seed_gives_it_again(stream: StreamedSplit) -> None:
    first, second = _names(stream, 0), _names(stream, 1)
    assert first != second and sorted(first) == sorted(second)
    assert _names(stream, 0) == first and _names(_divided(stream, seed=7), 0) != first


def test_each_process_reads_its_own_shards_and_as_many_rows_as_the_others(stream: StreamedSplit) -> None:
    processes = [_divided(stream, rank=rank, processes=2) for rank in range(2)]
    shown = [_names(process, 3) for process in processes]
    assert len(shown[0]) == len(shown[1]) == len(processes[0]) == -(-len(stream) // 2)
    assert not set(shown[0]) & set(shown[1])
    assert len(set(shown[0]) | set(shown[1])) >= len(stream) - 4  # shards differ by an image or two
    opened = [{name.split(":")[0] for name in _files_of(process)} for process in processes]
    assert opened[0] and opened[1] and not opened[0] & opened[1]


def _files_of(stream: StreamedSplit) -> list[str]:
    kwargs = stream._rows(0)._prepare_ex_iterable_for_iteration()
    while hasattr(kwargs, "ex_iterable"):
        kwargs = kwargs.ex_iterable
    return list(kwargs.kwargs["files"])


def test_with_fewer_shards_than_processes_each_keeps_its_share_of_all_and_the_run_says_so(
    stream: StreamedSplit, shards: Path, preprocessing: Preprocessing, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    many = [_divided(stream, rank=rank, processes=12) for rank in range(12)]
    assert not many[0].owns_shards
    shown = [_names(process) for process in many]
    assert {len(names) for names in shown} == {len(many[0])}
    assert {name for names in shown for name in names} == set(stream["file_name"])
    training = training_arguments(tmp_path)
    with caplog.at_level(logging.WARNING, "brain_mri.data.streaming"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingArguments, "world_size", 12)
        _open(shards, preprocessing, training)
    assert "fewer than the 12 processes: each process reads all of them and keeps one image in 12" in caplog.text


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_share_an_epoch_without_a_row_twice(stream: StreamedSplit, workers: int) -> None:
    several = _divided(stream, workers=workers)
    loader = torch.utils.data.DataLoader(several, batch_size=8, num_workers=workers, collate_fn=list)
    batches = list(loader)
    names = [row["file_name"] for batch in batches for row in batch]
    assert len(names) == len(stream) and len(batches) == len(loader)
    assert [len(batch) for batch in batches].count(8) == len(stream) // 8
    if workers == 1:
        assert sorted(names) == sorted(stream["file_name"])


def _trainer(folder: Path, shards: Path, preprocessing: Preprocessing, **options: Any) -> MRITrainer:
    splits = _open(shards, preprocessing, training_arguments(folder, **options))
    return small_trainer(folder, splits, preprocessing, RecipeArguments(class_weights="balanced"), **options)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_resumed_stream_ends_at_the_same_weights_bit_for_bit(
    tmp_path: Path, shards: Path, preprocessing: Preprocessing, workers: int
) -> None:
    options: dict[str, Any] = {"dataloader_num_workers": workers}
    whole = _trainer(tmp_path / "whole", shards, preprocessing, **options)
    whole.train()
    per_epoch = -(-len(whole.train_dataset) // 8)
    assert whole.state.global_step == whole.state.max_steps == 2 * per_epoch
    for stop in (per_epoch + 2,) if workers else (2, per_epoch, per_epoch + 2):
        resumed = _trainer(tmp_path / str(stop), shards, preprocessing, **options)
        resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / f"checkpoint-{stop}"))
        assert not (tmp_path / str(stop) / f"checkpoint-{stop}").exists(), "it did not begin anew"
        assert resumed.state.global_step == whole.state.global_step
        for name, value in whole.model.state_dict().items():
            assert torch.equal(value, resumed.model.state_dict()[name]), (stop, name)


def test_a_stream_that_was_changed_is_not_gone_on_with(stream: StreamedSplit, tmp_path: Path) -> None:
    keep_record(stream, tmp_path, None)
    keep_record(stream, tmp_path, "checkpoint-3")
    kept = (tmp_path / "stream.json").read_bytes()
    other = _divided(stream, workers=2, buffer=99)
    with pytest.raises(ConfigError, match=r"dataloader_num_workers was 0, is 2; shuffle_buffer was 16, is 99"):
        keep_record(other, tmp_path, "checkpoint-3")
    assert (tmp_path / "stream.json").read_bytes() == kept
    keep_record(other, tmp_path, None)
    assert json.loads((tmp_path / "stream.json").read_text())["shuffle_buffer"] == 99


def test_what_a_stream_cannot_do_is_refused_in_a_sentence(
    shards: Path, phantoms: Path, preprocessing: Preprocessing, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"holds pictures, and --streaming reads Parquet shards"):
        prepare_images(DataArguments(data_dir=str(phantoms), streaming=True), preprocessing)
    write_shards(phantoms, tmp_path / "set", "cc0-1.0", "x")
    with pytest.raises(DataError, match=r"no validation split.*--validation_fraction 0\.2"):
        prepare_images(DataArguments(data_dir=str(tmp_path / "set"), streaming=True), preprocessing)
    with pytest.raises(ConfigError, match="--train_on_validation"):
        DataArguments(data_dir=str(shards), streaming=True, train_on_validation=True)
    data = DataArguments(data_dir=str(shards), streaming=True)
    images = prepare_images(data, preprocessing)
    with pytest.raises(ConfigError, match="search without --streaming"):
        open_stream(data, training_arguments(tmp_path), 3, preprocessing, images)
    with pytest.raises(ConfigError, match="--ignore_data_skip"):
        open_stream(data, training_arguments(tmp_path, ignore_data_skip=True), 0, preprocessing, images)


def test_a_picture_that_cannot_be_read_ends_the_run_with_its_name(stream: StreamedSplit) -> None:
    row = {"image": {"bytes": b"no picture", "path": "x.png"}, "label": 0, "file_name": "train/glioma/x.png"}
    with pytest.raises(DataError, match=r"train/glioma/x\.png.*write the shards without it"):
        stream._ready(row)


def test_the_sample_goes_on_until_every_class_is_seen(stream: StreamedSplit) -> None:
    rows = known_images(_divided(stream))
    assert sorted(rows["file_name"]) == sorted(stream["file_name"])
    assert set(_divided(stream).sample(most=1)["label"]) == {0, 1, 2, 3}


@pytest.mark.slow
def test_train_streams_from_shards_and_the_card_says_what_was_not_audited(shards: Path, tmp_path: Path) -> None:
    words = ["configs/quickstart.yaml", "--data_dir", str(shards), "--output_dir", str(tmp_path / "model")]
    words += ["--streaming", "true", "--shuffle_buffer", "20", "--num_train_epochs", "1", "--image_size", "32"]
    words += ["--per_device_train_batch_size", "8", "--preprocessing_workers", "1", "--disable_tqdm", "true"]
    assert "training images from" in run_train(*words)
    record = json.loads((tmp_path / "model" / "run.json").read_text())
    rows = sum(record["splits"]["train"].values())
    assert rows == 48 - sum(record["splits"]["validation"].values()) and record["global_step"] == rows // 8
    assert record["boxed_images"] > 0
    assert not (tmp_path / "model" / "audit.json").exists()
    card = (tmp_path / "model" / "README.md").read_text()
    assert "were streamed" in card.split("## Leakage audit")[1].split("##")[0]
    assert (tmp_path / "model" / "guard.json").is_file() and load_file(tmp_path / "model" / "model.safetensors")


@pytest.mark.slow
def test_two_processes_train_on_shards_of_their_own_in_step(shards: Path, tmp_path: Path) -> None:
    words = ["configs/quickstart.yaml", "--data_dir", str(shards), "--output_dir", str(tmp_path / "model")]
    words += ["--streaming", "true", "--num_train_epochs", "1", "--image_size", "32", "--disable_tqdm", "true"]
    words += ["--per_device_train_batch_size", "4", "--preprocessing_workers", "1", "--guidance", "0"]
    words += ["--export", "false"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "train.py"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [*launcher, *words]
    done = subprocess.run(command, cwd=_ROOT, env=environment, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((tmp_path / "model" / "run.json").read_text())
    rows = sum(record["splits"]["train"].values())
    assert record["processes"] == 2 and record["global_step"] == -(-rows // 2) // 4
    assert json.loads((tmp_path / "model" / "stream.json").read_text())["processes"] == 2
