"""Every option of `brain-mri train --help` is tried: a run of three steps finishes, or is refused in a sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.doors import run_door

from brain_mri.arguments import DataArguments, ModelArguments, RecipeArguments
from brain_mri.errors import USER_ERROR_EXIT_CODE
from brain_mri.model_folder import GUARD, RUN
from brain_mri.phantom.dataset import write_phantoms
from brain_mri.training.__main__ import main as training
from brain_mri.utils.options import TrainingOptions, options_of

_OPTIONS = {
    option.name: option
    for kind in (DataArguments, ModelArguments, RecipeArguments, TrainingOptions)
    for option in options_of(kind)
}
_TINY = '{"layers":[1,1,1,1],"channels":[8,8,8,16],"output_stride":8}'
_GIVEN = {"data_dir", "output_dir"}  # by every run here
_ELSEWHERE = {  # why an option is not tried here
    "streaming": "tests/data/test_streaming.py trains on a stream",
    "shuffle_buffer": "tests/data/test_streaming.py trains on a stream",
    **dict.fromkeys(("image_column", "label_column"), "of Hub data: tests/data/test_hub_dataset.py reads such columns"),
    **dict.fromkeys(
        ("teacher", "teacher_weight", "teacher_temperature"), "tests/training/test_teacher.py has a teacher"
    ),
    "weights": "tests/models/test_weights.py loads a file",
    "lora_rank": "needs linear layers: tests/models/test_lora.py",
    "cache_features": "tests/training/test_frozen.py keeps features",
    "resume_from_checkpoint": "tests/training/test_identity.py resumes",
    "resume_with_changes": "tests/training/test_identity.py resumes with changes",
    "push_to_hub": "tests/hub/test_push_after_training.py pushes to a Hub of its own",
    "hub_model_id": "tests/hub/test_push_after_training.py pushes to a Hub of its own",
    "torch_compile": "needs a C++ compiler and a minute; tests/test_quickstart.py compiles",
    "torch_compile_backend": "turns torch_compile on",
    "torch_compile_mode": "turns torch_compile on",
    "ddp_backend": "several processes: tests/training/test_distributed.py",
    "local_rank": "set by a launcher, not by hand",
}
_REFUSED = {  # an option that may end in a sentence instead, and why
    **dict.fromkeys(("bf16", "bf16_full_eval", "fp16", "fp16_full_eval", "tf32"), "the hardware may not have it"),
    **dict.fromkeys(("fsdp", "fsdp_config"), "needs several processes"),
    **dict.fromkeys(("deepspeed", "use_liger_kernel", "report_to"), "needs a package that may not be there"),
    "neftune_noise_alpha": "for networks of words",
    **dict.fromkeys(
        ("prediction_loss_only", "eval_do_concat_batches", "batch_eval_metrics"), "nothing could be judged"
    ),
}
_ALSO_EXPORTED = {  # the ONNX file is the longest part of so short a run; these options change the network
    *("model", "model_args", "drop_rate", "drop_path_rate", "freeze_until", "final_output_stride", "channels_last"),
    *("activation_checkpointing", "gradient_checkpointing", "precision", "bf16_full_eval", "fp16_full_eval"),
    *("train_on_validation", "guidance", "ema_decay"),
}
_FAST = {"activation_checkpointing", "freeze_until"}
_VALUES: dict[str, str] = {  # words after the option; what else the option needs is among them
    "data_revision": "main",
    "validation_fraction": "0.4",
    "test_fraction": "0.3",
    "split_seed": "7",
    "twin_threshold": "0.95",
    "train_on_validation": "true",
    "max_train_samples": "12",
    "max_eval_samples": "4",
    "preprocessing_workers": "2",
    "model": "timm/resnet26.bt_in1k",
    "model_revision": "main",
    "pretrained": "false",
    "image_size": "48",
    "drop_rate": "0.3",
    "drop_path_rate": "0.1",
    "model_args": '{"layers":[1,1,1,1],"channels":[8,8,16,16],"output_stride":8}',
    "freeze_until": "layer3",
    "rotation": "5",
    "translation": "0.1",
    "zoom": "0.2",
    "horizontal_flip": "0",
    "brightness": "0.1",
    "contrast": "0.1",
    "contrast_variation": "0.5",
    "grafts": "0.5",
    "lesions": "0.5",
    "draw_by": "cluster",
    "mixup": "0.2 --guidance 0",
    "cutmix": "0.2 --guidance 0",
    "progressive_size": "64",
    "progressive_share": "0.3",
    "final_output_stride": "8 --model_args none",
    "guidance": "0.3",
    "guidance_extent": "0.3",
    "min_steps": "4",
    "class_weights": "balanced",
    "ema_decay": "0.9",
    "layer_decay": "0.8",
    "backbone_lr_scale": "0.5",
    "early_stopping_patience": "1",
    "precision": "bf16",
    "channels_last": "false",
    "search_trials": "1",
    "export": "false",
    "per_device_train_batch_size": "5",
    "num_train_epochs": "1",
    "max_steps": "2",
    "learning_rate": "1e-4",
    "lr_scheduler_type": "constant",
    "lr_scheduler_kwargs": '{"num_cycles":0.4}',
    "warmup_steps": "1",
    "optim": "sgd",
    "optim_args": "foreach=false",
    "weight_decay": "0.1",
    "adam_beta1": "0.8",
    "adam_beta2": "0.99",
    "adam_epsilon": "1e-7",
    "optim_target_modules": "all-linear",
    "gradient_accumulation_steps": "2",
    "average_tokens_across_devices": "false",
    "max_grad_norm": "0.5",
    "label_smoothing_factor": "0.1",
    "bf16": "true --use_cpu true",
    "fp16": "true",
    "bf16_full_eval": "true --use_cpu true",
    "fp16_full_eval": "true",
    "tf32": "true",
    "activation_checkpointing": "true",
    "activation_checkpointing_kwargs": '{"use_reentrant":false} --activation_checkpointing true',
    "gradient_checkpointing": "true",
    "gradient_checkpointing_kwargs": '{"use_reentrant":false} --gradient_checkpointing true',
    "use_liger_kernel": "true",
    "liger_kernel_config": '{"rope":false}',
    "use_cache": "true",
    "neftune_noise_alpha": "0.1",
    "torch_empty_cache_steps": "1",
    "auto_find_batch_size": "true",
    "logging_strategy": "epoch",
    "logging_steps": "1",
    "logging_first_step": "true",
    "log_on_each_node": "false",
    "logging_nan_inf_filter": "false",
    "include_num_input_tokens_seen": "true",
    "log_level": "error",
    "log_level_replica": "error",
    "disable_tqdm": "true",
    "report_to": "tensorboard",
    "run_name": "trial",
    "project": "trial",
    "trackio_space_id": "nobody/nothing",
    "trackio_bucket_id": "nobody/nothing",
    "trackio_static_space_id": "nobody/nothing",
    "eval_strategy": "steps --eval_steps 1 --save_strategy steps --save_steps 1",
    "eval_steps": "1 --eval_strategy steps --save_strategy steps --save_steps 1",
    "eval_delay": "1",
    "per_device_eval_batch_size": "3",
    "prediction_loss_only": "true",
    "eval_on_start": "true",
    "eval_do_concat_batches": "false",
    "eval_use_gather_object": "true",
    "eval_accumulation_steps": "1",
    "include_for_metrics": "loss",
    "batch_eval_metrics": "true",
    "save_only_model": "true",
    "save_strategy": "best",
    "save_steps": "1 --save_strategy steps --eval_strategy steps --eval_steps 1",
    "save_on_each_node": "true",
    "save_total_limit": "1",
    "enable_jit_checkpoint": "true",
    "hub_token": "hf_nothing",
    "hub_private_repo": "true",
    "hub_strategy": "end",
    "hub_always_push": "true",
    "hub_revision": "main",
    "load_best_model_at_end": "false",
    "metric_for_best_model": "nll",
    "greater_is_better": "true",
    "ignore_data_skip": "true",
    "restore_callback_states_from_checkpoint": "true",
    "full_determinism": "true",
    "seed": "1",
    "data_seed": "1",
    "use_cpu": "true",
    "accelerator_config": '{"split_batches":false}',
    "dataloader_drop_last": "false",
    "dataloader_num_workers": "1",
    "dataloader_pin_memory": "false",
    "dataloader_persistent_workers": "true --dataloader_num_workers 1",
    "dataloader_prefetch_factor": "2 --dataloader_num_workers 1",
    "dataloader_multiprocessing_context": "fork --dataloader_num_workers 1",
    "dataloader_in_order": "false",
    "remove_unused_columns": "true",
    "label_names": "labels",
    "train_sampling_strategy": "sequential",
    "length_column_name": "n",
    "ddp_find_unused_parameters": "true",
    "ddp_bucket_cap_mb": "10",
    "ddp_broadcast_buffers": "false",
    "ddp_static_graph": "true",
    "ddp_timeout": "60",
    "fsdp": "true",
    "fsdp_config": '{"min_num_params":1}',
    "deepspeed": "ds.json",
    "debug": "underflow_overflow",
    "skip_memory_metrics": "false",
    "do_train": "true",
    "do_eval": "true",
    "do_predict": "true",
}


@pytest.fixture(scope="module")
def few(built_once: Callable[..., Path]) -> Path:
    """A smaller set of phantoms than the other tests': 6 training and 2 test pictures of each class."""
    options = {"train_per_class": 6, "test_per_class": 2, "size": 64, "slices_per_patient": 2}
    return built_once("few", lambda folder: write_phantoms(folder, **options))


def test_every_option_has_a_value_here_or_a_reason_for_none() -> None:
    assert set(_OPTIONS) == _GIVEN | set(_VALUES) | set(_ELSEWHERE)
    assert not set(_VALUES) & set(_ELSEWHERE)


def _tried(name: str) -> object:
    return pytest.param(name, marks=[] if name in _FAST else pytest.mark.slow)


@pytest.mark.parametrize("name", [_tried(name) for name in _VALUES])
def test_three_steps_with_any_option_end_in_a_model(name: str, few: Path, tmp_path: Path) -> None:
    given = ["--data_dir", str(few), "--output_dir", str(tmp_path / "run"), "--image_size", "32", "--max_steps", "3"]
    given += ["--per_device_train_batch_size", "4", "--preprocessing_workers", "1", "--model_args", _TINY]
    export = str(name in _ALSO_EXPORTED).lower()
    done = run_door(training, "quickstart", *given, "--export", export, f"--{name}", *_VALUES[name].split())
    if done.code == USER_ERROR_EXIT_CODE and name in _REFUSED:
        assert not (tmp_path / "run").exists() and len(done.said.strip().splitlines()) == 1
        return
    assert done.code == 0, done.said
    assert (tmp_path / "run" / RUN).is_file()
    assert (tmp_path / "run" / GUARD).is_file() == (name in _ALSO_EXPORTED)
