from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import DatasetDict
from support.small_training import MODEL, training_arguments
from transformers import PreTrainedModel

from brain_mri.arguments import RecipeArguments
from brain_mri.data.training_images import DRAW_GROUP
from brain_mri.data.transforms import Collator, Preprocessing
from brain_mri.errors import ConfigError
from brain_mri.labels import LABELS
from brain_mri.models.build import build_config, build_model
from brain_mri.training.build import build_trainer
from brain_mri.training.frozen import TAUGHT, collate, features_only
from brain_mri.training.teacher import Teacher


def _network(freeze_until: str, seed: int = 0) -> PreTrainedModel:
    args = replace(MODEL, freeze_until=freeze_until)
    torch.manual_seed(seed)
    return build_model(build_config(args), args, LABELS)


def _counted(model: PreTrainedModel) -> list[int]:
    """How many images go through the frozen part, noted call by call."""
    seen: list[int] = []
    model.timm_model.conv1.register_forward_hook(lambda _, inputs, output: seen.append(len(output)))
    return seen


def test_the_features_of_the_validation_images_give_the_whole_networks_answers(
    splits: DatasetDict, preprocessing: Preprocessing
) -> None:
    model = _network("fc").eval()
    rows = [splits["validation"][i] for i in range(4)]
    pixels = preprocessing.normalize(Collator(32)(rows)["pixel_values"])
    recipe = RecipeArguments(cache_features=1)
    with torch.no_grad():
        expected = model(pixel_values=pixels).logits
        with features_only(model, splits, preprocessing, recipe, 0, None) as cached:
            batch = collate([cached["validation"][i] for i in range(4)])
            found = model.eval()(pixel_values=batch["pixel_values"]).logits
        again = model(pixel_values=pixels).logits
    assert torch.allclose(found, expected, atol=2e-3) and batch["labels"].tolist() == [row["label"] for row in rows]
    assert torch.equal(again, expected), "afterwards it takes pixels again"


def test_each_copy_is_computed_once_and_the_epochs_only_train_the_head(
    tmp_path: Path, splits: DatasetDict, preprocessing: Preprocessing
) -> None:
    model, recipe = _network("fc", seed=1), RecipeArguments(cache_features=3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    seen = _counted(model)
    n, held_out = len(splits["train"]), len(splits["validation"])
    with features_only(model, splits, preprocessing, recipe, 0, None) as cached:
        assert len(cached["train"]) == 3 * n and sum(seen) == 2 + 3 * n + held_out
        first, second = (collate([cached["train"][i]])["pixel_values"] for i in (0, n))
        assert not torch.equal(first, second), "the copies are augmented, each in its own way"
        args = training_arguments(tmp_path, save_strategy="no", eval_strategy="epoch")
        trainer = build_trainer(model, cached, preprocessing, recipe, args)
        trainer.train()
    assert sum(seen) == 2 + 3 * n + held_out
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"timm_model.fc.weight", "timm_model.fc.bias"}
    assert trainer.state.global_step == 2 * -(-3 * n // 8)


def test_a_resumed_run_finds_the_features_and_another_recipe_or_seed_its_own(
    splits: DatasetDict, preprocessing: Preprocessing
) -> None:
    def computed(seed: int, **recipe: Any) -> int:
        model = _network("fc", seed=2)
        seen = _counted(model)
        options = RecipeArguments(cache_features=1, **recipe)
        with features_only(model, splits, preprocessing, options, seed, None):
            return sum(seen[1:])

    n = len(splits["train"]) + len(splits["validation"])
    assert [computed(0), computed(0), computed(1), computed(0, rotation=3.0)] == [n, 0, n, n]


def test_the_teacher_is_asked_about_the_same_copies_and_groups_are_kept(
    splits: DatasetDict, preprocessing: Preprocessing
) -> None:
    model, teacher = _network("fc", seed=3), Teacher("itself", _network("fc", seed=3), preprocessing, "fp32")
    teacher.match(LABELS)
    grouped = DatasetDict({**splits, "train": splits["train"].add_column(DRAW_GROUP, range(len(splits["train"])))})
    recipe = RecipeArguments(cache_features=1, precision="fp32", teacher="itself")
    with features_only(model, grouped, preprocessing, recipe, 0, teacher) as cached, torch.no_grad():
        batch = collate([cached["train"][i] for i in range(5)])
        own = model.eval()(pixel_values=batch["pixel_values"]).logits
        assert torch.allclose(batch[TAUGHT], own, atol=2e-3)
        assert TAUGHT not in cached["validation"].column_names and cached["train"][DRAW_GROUP][:3] == [0, 1, 2]


@pytest.mark.parametrize("until", ["layer3", "layer2"])
def test_features_of_layers_that_are_trained_are_not_kept(
    until: str, splits: DatasetDict, preprocessing: Preprocessing
) -> None:
    recipe = RecipeArguments(cache_features=1)
    with (
        pytest.raises(ConfigError, match="layers below the head are trained"),
        features_only(_network(until), splits, preprocessing, recipe, 0, None),
    ):
        pass


def test_what_changes_the_features_in_every_step_contradicts_keeping_them() -> None:
    for name in ("mixup", "guidance", "progressive_size"):
        with pytest.raises(ConfigError, match=f"--cache_features and --{name}"):
            RecipeArguments(cache_features=1, **{name: 64})
