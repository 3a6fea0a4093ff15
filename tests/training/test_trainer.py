from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import DatasetDict
from safetensors.torch import load_file
from support.small_training import MODEL, small_trainer, training_arguments
from transformers import TrainingArguments

from brain_mri.arguments import RecipeArguments
from brain_mri.data.transforms import Preprocessing
from brain_mri.errors import ConfigError
from brain_mri.labels import LABELS
from brain_mri.models.build import build_config, build_model
from brain_mri.training.build import build_trainer
from brain_mri.training.trainer import MRITrainer, _numpy_seeded

_RICH = RecipeArguments(ema_decay=0.9, mixup=0.2, cutmix=0.5, class_weights="balanced", backbone_lr_scale=0.5)


@pytest.fixture(scope="module")
def whole(splits: DatasetDict, preprocessing: Preprocessing, tmp_path_factory: pytest.TempPathFactory) -> MRITrainer:
    """A run to its end, which leaves after every step the checkpoint that a kill at that moment would have left."""
    trainer = small_trainer(tmp_path_factory.mktemp("whole"), splits, preprocessing, _RICH, label_smoothing_factor=0.1)
    trainer.train()
    return trainer


@pytest.mark.parametrize("stop", [2, 5, 7], ids=["first epoch", "epoch's end", "second epoch"])
def test_a_resumed_run_ends_at_the_same_weights_bit_for_bit(
    whole: MRITrainer, tmp_path: Path, splits: DatasetDict, preprocessing: Preprocessing, stop: int
) -> None:
    assert whole.state.global_step == 10
    torch.manual_seed(99)  # a new process starts from another state
    resumed = small_trainer(tmp_path, splits, preprocessing, _RICH, label_smoothing_factor=0.1)
    resumed.train(resume_from_checkpoint=str(Path(whole.args.output_dir) / f"checkpoint-{stop}"))
    assert resumed.state.global_step == 10 and not (tmp_path / f"checkpoint-{stop}").exists(), "it did not begin anew"
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_the_average_is_what_is_judged_and_what_is_left(
    tmp_path: Path, splits: DatasetDict, preprocessing: Preprocessing
) -> None:
    trainer = small_trainer(tmp_path, splits, preprocessing, RecipeArguments(ema_decay=0.9), num_train_epochs=1)
    trainer.train()
    assert trainer.ema is not None
    for name, value in trainer.ema.module.state_dict().items():
        assert torch.equal(value, trainer.model.state_dict()[name])
    assert (tmp_path / "checkpoint-5" / "ema.safetensors").is_file(), "the checkpoint holds both, to resume from"
    last = load_file(tmp_path / "checkpoint-5" / "model.safetensors")
    averaged = trainer.model.state_dict()["timm_model.fc.weight"]
    assert not torch.equal(last.get("timm_model.fc.weight", last.get("fc.weight")), averaged)


def test_extent_alone_guides_and_is_refused_where_images_are_mixed(
    tmp_path: Path, splits: DatasetDict, preprocessing: Preprocessing
) -> None:
    finer = replace(MODEL, model_args='{"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16], "output_stride": 8}')
    losses = []
    for weight in (0.0, 1.0):
        torch.manual_seed(0)
        model = build_model(build_config(finer), finer, LABELS)
        options = training_arguments(tmp_path / str(weight), num_train_epochs=1, save_strategy="no")
        recipe = RecipeArguments(guidance_extent=weight)
        losses.append(build_trainer(model, splits, preprocessing, recipe, options).train().training_loss)
    assert losses[0] + 0.1 < losses[1] < losses[0] + 1.1, "one minus a Dice overlap, over the images with a box"
    mixed = RecipeArguments(guidance_extent=1.0, mixup=0.2)
    with pytest.raises(ConfigError, match="guidance_extent with --mixup"):
        small_trainer(tmp_path / "mixed", splits, preprocessing, mixed).train()


def test_small_images_come_first_and_full_size_last(
    tmp_path: Path, splits: DatasetDict, preprocessing: Preprocessing
) -> None:
    recipe = RecipeArguments(progressive_size=48, progressive_share=0.6)
    trainer = small_trainer(tmp_path, splits, preprocessing, recipe, save_strategy="no")
    sides = []
    trainer.model.register_forward_pre_hook(
        lambda module, args, kwargs: sides.append(kwargs["pixel_values"].shape[-1]), with_kwargs=True
    )
    trainer.train()
    assert sides == [48] * 6 + [32] * 4


def test_evaluation_counts_every_image_although_training_drops_a_part_batch(
    tmp_path: Path, splits: DatasetDict, preprocessing: Preprocessing
) -> None:
    trainer = small_trainer(tmp_path, splits, preprocessing, dataloader_drop_last=True, per_device_eval_batch_size=7)
    assert len(trainer.predict(trainer.eval_dataset).predictions) == len(splits["validation"])
    assert len(trainer.get_train_dataloader()) == len(splits["train"]) // 8


def test_evaluation_neither_augments_nor_smooths(
    tmp_path: Path, splits: DatasetDict, preprocessing: Preprocessing
) -> None:
    trainer = small_trainer(tmp_path, splits, preprocessing, _RICH, label_smoothing_factor=0.3)
    scores = trainer.evaluate()
    assert scores == trainer.evaluate() | {k: v for k, v in scores.items() if "second" in k or "runtime" in k}
    assert set(scores) >= {"eval_loss", "eval_accuracy", "eval_balanced_accuracy", "eval_macro_f1", "eval_nll"}


def test_balanced_weights_even_the_classes_out(
    tmp_path: Path, splits: DatasetDict, preprocessing: Preprocessing
) -> None:
    few = splits["train"].filter(lambda row: row["label"] != 0 or row["file_name"].endswith("_0.png"))
    uneven = DatasetDict({**splits, "train": few})
    trainer = small_trainer(tmp_path, uneven, preprocessing, RecipeArguments(class_weights="balanced"))
    assert trainer.class_weights is not None
    counts = torch.bincount(torch.tensor(few["label"]))
    assert torch.allclose(trainer.class_weights * counts, torch.full((4,), len(few) / 4))


def test_the_best_epoch_is_kept(tmp_path: Path, splits: DatasetDict, preprocessing: Preprocessing) -> None:
    trainer = small_trainer(
        tmp_path,
        splits,
        preprocessing,
        RecipeArguments(ema_decay=0.5, early_stopping_patience=2),
        num_train_epochs=4,
        save_strategy="epoch",
        eval_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="macro_f1",
    )
    trainer.train()
    logged = [entry["eval_macro_f1"] for entry in trainer.state.log_history if "eval_macro_f1" in entry]
    assert trainer.state.best_metric == max(logged)
    trainer.ema = None  # judge what the model itself holds
    assert trainer.evaluate()["eval_macro_f1"] == pytest.approx(max(logged))


def test_what_the_trainer_would_stumble_over_is_said_beforehand(
    tmp_path: Path, splits: DatasetDict, preprocessing: Preprocessing, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="needs --metric_for_best_model"):
        small_trainer(tmp_path, splits, preprocessing, RecipeArguments(early_stopping_patience=2))
    large = {"dataloader_drop_last": True, "per_device_train_batch_size": 1000}
    with pytest.raises(ConfigError, match="fewer than one batch of 1000"):
        small_trainer(tmp_path, splits, preprocessing, **large)
    monkeypatch.setattr(TrainingArguments, "n_gpu", 2)
    with pytest.raises(ConfigError, match="2 GPUs and one process: start `accelerate launch"):
        small_trainer(tmp_path, splits, preprocessing)


def test_of_several_processes_only_the_writer_keeps_the_average(
    tmp_path: Path, splits: DatasetDict, preprocessing: Preprocessing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers calls `_save` in every process; the others wrote into a folder that might not be there yet."""
    trainer = small_trainer(tmp_path, splits, preprocessing, RecipeArguments(ema_decay=0.9), max_steps=1)
    trainer.train()
    monkeypatch.setattr(TrainingArguments, "should_save", False)
    trainer._save(str(tmp_path / "nowhere"))
    assert not (tmp_path / "nowhere").exists()


def test_mixup_draws_from_the_step_and_not_from_a_global_state() -> None:
    drawn = []
    for seed in (1, 2):
        np.random.seed(seed)
        kept = np.random.get_state()[1].copy()
        with _numpy_seeded(torch.Generator().manual_seed(7)):
            drawn.append(np.random.beta(0.2, 0.2, 5))
        assert np.array_equal(np.random.get_state()[1], kept)
    assert np.array_equal(*drawn)


def test_fp16_is_refused_with_the_way_out(tmp_path: Path, splits: DatasetDict, preprocessing: Preprocessing) -> None:
    with pytest.raises(ConfigError, match="--fp16 true"):
        small_trainer(tmp_path, splits, preprocessing, RecipeArguments(precision="fp16"))
