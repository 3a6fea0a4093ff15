from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import DatasetDict
from support.doors import QUICK, run_door, run_train
from support.small_training import MODEL, small_trainer
from torch.nn import functional

from brain_mri.arguments import ModelArguments, RecipeArguments
from brain_mri.data.transforms import Preprocessing
from brain_mri.errors import ConfigError
from brain_mri.labels import LABELS
from brain_mri.models.build import build_config, build_model, build_processor
from brain_mri.training.__main__ import main
from brain_mri.training.teacher import Teacher, distillation_loss
from brain_mri.utils.files import sha256

_ROOT = Path(__file__).parents[2]
_HEALTHY, _GLIOMA = LABELS.index("no_tumor"), LABELS.index("glioma")


_VIT = ModelArguments("timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k", pretrained=False, image_size=64)


def _teacher(names: tuple[str, ...] = LABELS, size: int = 64) -> Teacher:
    """A random network of another size than the student's 32 pixels, which answers in the order of `names`."""
    args = ModelArguments(MODEL.model, pretrained=False, image_size=size, model_args=MODEL.model_args)
    return _of(args, names)


def _of(args: ModelArguments, names: tuple[str, ...] = LABELS) -> Teacher:
    torch.manual_seed(1)
    model = build_model(build_config(args), args, names)
    return Teacher("some/teacher", model, Preprocessing.of(build_processor(model.config, args)), "fp32")


def test_a_teachers_classes_are_known_by_name_whatever_their_order_and_spelling() -> None:
    pixels = torch.rand(3, 3, 64, 64) * 255
    ours, other = _teacher(), _teacher(("pituitary_tumor", "notumor", "glioma", "meningioma"))
    for teacher in (ours, other):
        teacher.match(LABELS)
    assert torch.equal(other(pixels), ours(pixels)[:, [2, 3, 1, 0]])


def test_a_teacher_of_other_classes_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="some/teacher knows the classes no, yes, the images have glioma, meningioma"):
        _teacher(("no", "yes")).match(LABELS)


@pytest.mark.parametrize(
    ("network", "side", "shown"),
    [("conv", 64, 64), ("conv", 96, 64), ("conv", 48, 48), ("vit", 96, 64), ("vit", 48, 64)],
)
def test_a_teacher_sees_no_enlarged_images_if_it_takes_small_ones_and_normalises_them_as_it_was_trained(
    network: str, side: int, shown: int
) -> None:
    teacher, seen = _teacher(size=64) if network == "conv" else _of(_VIT), []
    teacher.match(LABELS)
    teacher._model.register_forward_pre_hook(lambda _, args, kwargs: seen.append(kwargs), with_kwargs=True)
    level = 100.0
    answers = teacher(torch.full((2, 3, side, side), level))
    (given,) = seen
    own = teacher._preprocessing
    expected = (level / 255 - torch.tensor(own.mean)) / torch.tensor(own.std)
    assert given["pixel_values"].shape == (2, 3, shown, shown)
    assert torch.allclose(given["pixel_values"].mean(dim=(0, 2, 3)), expected, atol=1e-4)
    assert not answers.requires_grad and not teacher._model.training


def test_the_loss_is_the_divergence_of_softened_answers_times_temperature_squared() -> None:
    logits, taught = torch.tensor([[2.0, 0.0]]), torch.tensor([[4.0, 0.0]])
    right = torch.tensor([0])
    p, q = (functional.softmax(values / 2, dim=1) for values in (taught, logits))
    expected = 4 * (p * (p.log() - q.log())).sum()
    assert distillation_loss(logits, taught, right, 2.0) == pytest.approx(float(expected))
    assert distillation_loss(taught, taught, right, 3.0) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("mixed", [False, True])
def test_a_false_all_clear_of_the_teacher_is_not_taught(mixed: bool) -> None:
    tumour = torch.tensor([_GLIOMA])
    targets = 0.9 * functional.one_hot(tumour, 4) + 0.1 / 4 if mixed else tumour
    taught = torch.zeros(1, 4)
    taught[0, _HEALTHY] = 9.0
    logits = torch.zeros(1, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(distillation_loss(logits, taught, targets, 2.0), logits)
    assert gradient[0, _GLIOMA] < 0 < gradient[0, _HEALTHY], "a step towards the label, away from the teacher"


def test_a_student_of_a_teacher_alone_comes_to_give_its_answers(
    tmp_path: Path, splits: DatasetDict, preprocessing: Preprocessing
) -> None:
    recipe = RecipeArguments(teacher="some/teacher", teacher_weight=1.0)
    options: dict[str, Any] = {"logging_steps": 5, "save_strategy": "no", "num_train_epochs": 12, "learning_rate": 1e-2}
    teacher = _teacher()
    teacher.match(LABELS)
    before = {name: value.clone() for name, value in teacher._model.state_dict().items()}
    trainer = small_trainer(tmp_path, splits, preprocessing, recipe, teacher=teacher, **options)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < 0.9 * losses[0]
    assert all(torch.equal(value, before[name]) for name, value in teacher._model.state_dict().items())


def test_a_teacher_is_asked_in_training_only_and_has_its_share_of_the_loss(
    tmp_path: Path, splits: DatasetDict, preprocessing: Preprocessing
) -> None:
    def losses(share: float) -> tuple[float, float]:
        recipe = RecipeArguments(teacher="some/teacher", teacher_weight=share, class_weights="balanced")
        trainer = small_trainer(tmp_path, splits, preprocessing, recipe, teacher=teacher, max_steps=1, logging_steps=1)
        before = trainer.evaluate()["eval_loss"]
        trainer.train()
        return before, next(entry["loss"] for entry in trainer.state.log_history if "loss" in entry)

    teacher = _teacher()
    teacher.match(LABELS)
    judged, trained = zip(*(losses(share) for share in (0.25, 0.75, 1.0)), strict=True)
    assert len(set(judged)) == 1
    assert trained[0] - trained[1] == pytest.approx(2 * (trained[1] - trained[2]), rel=1e-3)


def test_a_resumed_student_ends_at_the_same_weights_bit_for_bit(
    tmp_path: Path, splits: DatasetDict, preprocessing: Preprocessing
) -> None:
    recipe = RecipeArguments(
        teacher="some/teacher", ema_decay=0.9, mixup=0.2, cutmix=0.5, class_weights="balanced", progressive_size=48
    )
    teacher = _teacher()
    teacher.match(LABELS)
    whole = small_trainer(tmp_path / "whole", splits, preprocessing, recipe, teacher=teacher, save_total_limit=9)
    whole.train()
    torch.manual_seed(99)
    resumed = small_trainer(tmp_path / "resumed", splits, preprocessing, recipe, teacher=teacher)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-4"))
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_a_teacher_that_is_not_there_is_said_before_an_image_is_read(phantoms: Path, tmp_path: Path) -> None:
    words = ["configs/quickstart.yaml", "--data_dir", str(phantoms), "--output_dir", str(tmp_path / "out"), *QUICK]
    done = run_door(main, *words, "--teacher", str(tmp_path / "nowhere"))
    assert done.code == 2 and str(tmp_path / "nowhere") in done.said
    assert "twin" not in done.said and not (tmp_path / "out" / "audit.json").exists()


@pytest.mark.slow
def test_a_run_says_who_taught_it_and_two_processes_learn_as_one(
    guided_model: Path, phantoms: Path, tmp_path: Path
) -> None:
    calm = ("rotation", "horizontal_flip", "translation", "zoom", "brightness", "contrast", "guidance", "drop_rate")
    groups = '{"layers": [1, 1, 1, 1], "channels": [8, 16, 16, 32], "norm_layer": "groupnorm1"}'
    words = ["configs/quickstart.yaml", "--data_dir", str(phantoms), *QUICK, "--teacher", str(guided_model)]
    words += ["--model_args", groups, "--precision", "fp32", "--export", "false", "--logging_steps", "1"]
    words += [word for name in calm for word in (f"--{name}", "0")]
    one, two = tmp_path / "one", tmp_path / "two"
    said = run_train(*words, "--output_dir", str(one), "--per_device_train_batch_size", "8")
    assert "the teacher" not in said, "it was trained on the very split, and nothing is to be warned of"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "train.py"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [*launch, *words, "--output_dir", str(two), "--per_device_train_batch_size", "4"]
    subprocess.run(command, cwd=_ROOT, env=environment, check=True, capture_output=True)
    runs = [json.loads((folder / "run.json").read_text()) for folder in (one, two)]
    losses = [[entry["loss"] for entry in run["log_history"] if "loss" in entry] for run in runs]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
    taught_by = json.loads((guided_model / "run.json").read_text())
    for run in runs:
        assert run["teacher"]["sha256"] == sha256(guided_model / "model.safetensors")
        assert run["teacher"]["saw"] == "nothing" and run["recipe"]["teacher_weight"] == 0.5
        assert [stage["finished"] for stage in run["teacher"]["stages"]] == [taught_by["finished"]]
    assert f"| Teacher | `{guided_model.name}`" in (one / "README.md").read_text()
