"""A checkpoint holds all weights of a network of transformers, whatever names its file would have."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from datasets import DatasetDict
from safetensors.torch import load_file
from support.small_training import StopAt, training_arguments
from transformers import ViTConfig, ViTImageProcessor, ViTModel

from brain_mri.arguments import ModelArguments, RecipeArguments
from brain_mri.data.transforms import Preprocessing
from brain_mri.errors import ConfigError
from brain_mri.labels import LABELS
from brain_mri.models.build import build_config, build_model
from brain_mri.training.build import build_trainer
from brain_mri.training.trainer import MRITrainer

_OPTIONS = {"eval_strategy": "steps", "eval_steps": 2, "save_steps": 2, "num_train_epochs": 1, "learning_rate": 1e-2}


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("native")
    torch.manual_seed(0)
    config = ViTConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, image_size=32)
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def _trainer(
    vit: Path, folder: Path, splits: DatasetDict, preprocessing: Preprocessing, rank: int, best: bool = False
) -> MRITrainer:
    torch.manual_seed(0)
    args = ModelArguments(str(vit), image_size=32, lora_rank=rank)
    choosing = {"load_best_model_at_end": best, "metric_for_best_model": "nll", "greater_is_better": True}
    model = build_model(build_config(args), args, LABELS)
    options = training_arguments(folder, **_OPTIONS, **choosing)
    return build_trainer(model, splits, preprocessing, RecipeArguments(), options)


@pytest.mark.parametrize("rank", [0, 2])
def test_a_run_that_was_stopped_ends_at_the_same_weights(
    rank: int, vit: Path, tmp_path: Path, splits: DatasetDict, preprocessing: Preprocessing
) -> None:
    whole = _trainer(vit, tmp_path / "whole", splits, preprocessing, rank)
    whole.train()
    first = _trainer(vit, tmp_path / "parts", splits, preprocessing, rank)
    first.add_callback(StopAt(2))
    first.train()
    second = _trainer(vit, tmp_path / "parts", splits, preprocessing, rank)
    second.train(str(tmp_path / "parts" / "checkpoint-2"))
    assert second.state.global_step == whole.state.global_step > 2
    ends = whole.model.state_dict()
    assert all(torch.equal(tensor, ends[name]) for name, tensor in second.model.state_dict().items())


@pytest.mark.parametrize("rank", [0, 2])
def test_the_best_weights_come_back_whole(
    rank: int, vit: Path, tmp_path: Path, splits: DatasetDict, preprocessing: Preprocessing
) -> None:
    """The likelihood gets better in training, and the highest is asked for, so that the first checkpoint is best."""
    trainer = _trainer(vit, tmp_path, splits, preprocessing, rank, best=True)
    trainer.train()
    best = Path(str(trainer.state.best_model_checkpoint))
    assert best.name != f"checkpoint-{trainer.state.global_step}", "else it proves nothing"
    kept = _trainer(vit, tmp_path, splits, preprocessing, rank)
    kept.model.load_state_dict(load_file(best / "model.safetensors"))
    pictures = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        found, expected = (model.eval()(pixel_values=pictures).logits for model in (trainer.model, kept.model))
    assert torch.allclose(found, expected, atol=1e-5)


def test_a_part_of_the_weights_is_refused(
    vit: Path, tmp_path: Path, splits: DatasetDict, preprocessing: Preprocessing
) -> None:
    trainer = _trainer(vit, tmp_path, splits, preprocessing, 0)
    with pytest.raises(ConfigError, match=r"vit\.a"):
        trainer._issue_warnings_after_load(SimpleNamespace(missing_keys=["vit.a"], unexpected_keys=[]))
