"""What the tests of training share: a tiny network, options for a few steps of it, and a way to stop them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from datasets import DatasetDict
from transformers import TrainerCallback, TrainingArguments

from brain_mri.arguments import ModelArguments, RecipeArguments
from brain_mri.data.transforms import Preprocessing
from brain_mri.labels import LABELS
from brain_mri.models.build import build_config, build_model
from brain_mri.training.build import build_trainer
from brain_mri.training.teacher import Teacher
from brain_mri.training.trainer import MRITrainer

MODEL = ModelArguments(
    "timm/resnet18.a1_in1k",
    pretrained=False,
    image_size=32,
    drop_rate=0.2,
    model_args='{"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16]}',
)
_SETTINGS: dict[str, Any] = {
    "per_device_train_batch_size": 8,
    "num_train_epochs": 2,
    "learning_rate": 1e-3,
    "save_strategy": "steps",
    "save_steps": 1,
    "report_to": "none",
    "disable_tqdm": True,
    "remove_unused_columns": False,
    "dataloader_pin_memory": False,
    "use_cpu": True,
}


def training_arguments(folder: Path, **options: Any) -> TrainingArguments:
    return TrainingArguments(str(folder), **(_SETTINGS | options))


def small_trainer(
    folder: Path,
    splits: DatasetDict,
    preprocessing: Preprocessing,
    recipe: RecipeArguments | None = None,
    teacher: Teacher | None = None,
    **options: Any,
) -> MRITrainer:
    """A trainer of that network, its first weights always the same."""
    args = training_arguments(folder, **options)
    torch.manual_seed(0)
    model = build_model(build_config(MODEL), MODEL, LABELS)
    return build_trainer(model, splits, preprocessing, recipe or RecipeArguments(), args, teacher=teacher)


class StopAt(TrainerCallback):
    """Ends the training after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_training_stop = state.global_step == self.step
