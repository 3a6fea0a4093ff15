"""What a run can be told: dataclasses, filled from one YAML file and overridden on the command line. No torch."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from brain_mri.errors import ConfigError

TRAINING_DEFAULTS: dict[str, Any] = {  # of transformers' TrainingArguments, where ours are others
    "dataloader_drop_last": True,
    "ddp_find_unused_parameters": False,  # every weight takes part in every step
    "logging_steps": 20,
    "per_device_eval_batch_size": 64,
    "remove_unused_columns": False,
    "report_to": "none",  # tensorboard, trackio or wandb, where that package is installed
    "save_total_limit": 2,
}


def _option(default: Any, text: str, **metadata: Any) -> Any:
    """A field that says what it is for; `group` is the heading of --help that begins with it."""
    return field(default=default, metadata={"help": text, **metadata})


@dataclass(frozen=True)
class Columns:
    """`--image_column` and `--label_column`: None where the kinds of columns and the usual names decide."""

    image: str | None = None
    label: str | None = None


@dataclass
class DataArguments:
    """Where the images are and how they are split."""

    data_dir: str | None = _option(None, "Folder of images (<split>/<class>/ or <class>/) or a Hub dataset id.")
    data_revision: str | None = _option(None, "Branch, tag or commit of a Hub dataset.")
    image_column: str | None = _option(
        None,
        "Column of the images in a Hub dataset, Parquet files or a labels.csv; default: the only one of its kind, or "
        "found by its name.",
    )
    label_column: str | None = _option(
        None, "Column of the labels, which may be strings; default: the only one of its kind, or found by its name."
    )
    streaming: bool = _option(
        False, "Read the training images from Parquet shards as they are needed, for sets larger than the disk."
    )
    shuffle_buffer: int = _option(1000, "Images, as their files are, that --streaming keeps per worker to mix them.")
    validation_fraction: float = _option(0.2, "Share of train held out where there is no validation split (0 to 0.5).")
    test_fraction: float = _option(0.2, "Share of all images held out where there is no test split (0 to 0.5).")
    split_seed: int = _option(42, "Seed of the held-out splits; independent of --seed, so that runs can be compared.")
    twin_threshold: float = _option(
        0.985, "Correlation of two thumbnails, at most 1, from which images are near-duplicates, kept in one split."
    )
    train_on_validation: bool = _option(
        False, "Train on the validation images too, for the last stage of a model chosen and calibrated before."
    )
    max_train_samples: int = _option(
        0, "Train on so many of the training images only, drawn by --split_seed in the shares of the classes; 0: all."
    )
    max_eval_samples: int = _option(
        0, "The same for validation, on which thresholds and calibration are chosen too: for trials only; 0: all."
    )
    preprocessing_workers: int = _option(2, "Processes that decode and resize the images before training starts.")

    def __post_init__(self) -> None:
        for name in ("validation_fraction", "test_fraction"):
            if not 0 < getattr(self, name) <= 0.5:
                raise ConfigError(f"--{name} {getattr(self, name)}: give a share above 0 and at most 0.5.")
        if not 0.9 <= self.twin_threshold <= 1:
            raise ConfigError(f"--twin_threshold {self.twin_threshold}: give a correlation from 0.9 to 1.")
        if self.shuffle_buffer < 1:
            raise ConfigError(f"--shuffle_buffer {self.shuffle_buffer}: give 1 or more images.")
        for name in ("max_train_samples", "max_eval_samples"):
            if getattr(self, name) < 0:
                raise ConfigError(f"--{name} {getattr(self, name)}: give a number of images, or 0 for all.")
        if self.streaming and self.max_train_samples:
            raise ConfigError("--streaming and --max_train_samples: give --max_steps, or write shards of fewer images.")
        if self.streaming and self.train_on_validation:
            raise ConfigError("--streaming and --train_on_validation: write shards whose train split has all images.")

    @property
    def columns(self) -> Columns:
        """The columns that were asked for."""
        return Columns(self.image_column, self.label_column)


@dataclass
class ModelArguments:
    """Which network, from which weights, at which size."""

    model: str = _option(
        "timm/tf_efficientnet_lite0.in1k", "Hub id or folder of an image model: timm's or a transformers-native one."
    )
    model_revision: str | None = _option(None, "Branch, tag or commit of the model on the Hub.")
    pretrained: bool = _option(True, "Start from the model's weights; false: the same architecture, random weights.")
    weights: str | None = _option(
        None,
        "Safetensors file whose tensors replace those of the model that have the same name and shape: a backbone of "
        "your own. How many did not fit is said.",
    )
    image_size: int = _option(224, "Height and width, in pixels, that every slice is resized to.")
    drop_rate: float | None = _option(None, "Dropout before the classifier, 0 to below 1; default: the model's own.")
    drop_path_rate: float | None = _option(None, "Stochastic depth, 0 to below 1; default: the model's own.")
    model_args: str | None = _option(None, "JSON of further arguments to timm.create_model, kept in config.json.")
    freeze_until: str | None = _option(
        None,
        "Freeze all layers before this one (layer3, blocks.4), their BatchNorm statistics included.",
    )
    lora_rank: int = _option(
        0,
        "Freeze all but the classifier, and train adapters of this rank beside the linear layers (LoRA, by peft); they "
        "are merged into the weights at the end; 0: none.",
    )

    def __post_init__(self) -> None:
        for name in ("drop_rate", "drop_path_rate"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise ConfigError(f"--{name} {value}: give a rate from 0 to below 1.")
        if self.image_size < 32:
            raise ConfigError(f"--image_size {self.image_size}: give at least 32 pixels.")
        if self.lora_rank < 0:
            raise ConfigError(f"--lora_rank {self.lora_rank}: give 1 or more, or 0 for none.")
        if self.lora_rank and self.freeze_until:
            raise ConfigError("--lora_rank freezes all but its adapters and the classifier: add --freeze_until none.")
        if isinstance(self.model_args, str):
            try:
                parsed = json.loads(self.model_args)
            except json.JSONDecodeError as error:
                raise ConfigError(f"--model_args {self.model_args!r} is no JSON: {error}.") from error
            if not isinstance(parsed, dict):
                raise ConfigError(f"--model_args {self.model_args!r}: give a JSON object such as '{{\"depth\": 12}}'.")

    @property
    def timm_arguments(self) -> dict[str, Any]:
        """The keyword arguments for `timm.create_model` that were asked for."""
        arguments: dict[str, Any] = json.loads(self.model_args) if self.model_args else {}
        rates = {"drop_rate": self.drop_rate, "drop_path_rate": self.drop_path_rate}
        return arguments | {name: rate for name, rate in rates.items() if rate is not None}


@dataclass
class RecipeArguments:
    """How it is trained, beyond transformers' TrainingArguments."""

    rotation: float = _option(
        15.0, "Random rotation of training images, up to so many degrees either way.", group="augmentation"
    )
    translation: float = _option(0.05, "Random shift, up to this share of the image either way.")
    zoom: float = _option(0.1, "Random scale between 1 - zoom and 1 + zoom.")
    horizontal_flip: float = _option(0.5, "Chance of a left-right flip.")
    brightness: float = _option(0.2, "Random brightness factor between 1 - b and 1 + b.")
    contrast: float = _option(0.2, "Random contrast factor between 1 - c and 1 + c.")
    contrast_variation: float = _option(
        0.0,
        "Share of the training images whose contrast is drawn at random: curves, bias field, blur, noise, and a plain "
        "frame round a fifth of them (brain_mri.data.contrast); 0: none.",
    )
    grafts: float = _option(
        0.0,
        "Composited slices to train on (brain_mri.data.grafts): tumours moved into healthy slices, as many as this "
        "share of the training images, as many tumours covered, and a quarter as many healthy slices patched; 0: none. "
        "Needs boxes.csv and a class without a tumour.",
    )
    lesions: float = _option(
        0.0,
        "Painted lesions without contrast agent, of the class glioma (brain_mri.data.lesions), in healthy slices and "
        "in slices whose tumour was covered, as this share of the training images; 0: none. Needs what --grafts needs.",
    )
    draw_by: str = _option(
        "image",
        "What an epoch draws: each image once; one image of each cluster of near-duplicates; or images with a weight "
        "of 1/sqrt(slices of the patient) within their class.",
        choices=["image", "cluster", "patient"],
    )
    mixup: float = _option(0.0, "Alpha of mixup's Beta distribution; 0: none (Zhang 2018).")
    cutmix: float = _option(0.0, "Alpha of CutMix's Beta distribution; 0: none (Yun 2019).")
    progressive_size: int = _option(
        0,
        "Side, in pixels, of the training images in the first part of the run; 0: the full size throughout.",
        group="optimisation",
    )
    progressive_share: float = _option(0.6, "Share of the training steps taken at --progressive_size, 0 to 1.")
    final_output_stride: int = _option(
        0,
        "Rebuild the trained network at this output stride (16: maps twice as fine), if that does not cost validation "
        "macro-F1; timm convolutional networks only; 0: never.",
    )
    guidance: float = _option(
        0.0,
        "Weight of the loss that asks the true class's evidence map to lie in the box of boxes.csv; 0, or no "
        "boxes.csv: none.",
    )
    guidance_extent: float = _option(
        0.0,
        "Weight of the loss that asks that map, as it is drawn, to have the tumour's size: its overlap (Dice) with the "
        "ellipse in the box; 0, or no boxes.csv: none.",
    )
    class_weights: str = _option("none", "Weights of the classes in the loss.", choices=["none", "balanced"])
    ema_decay: float = _option(0.0, "Decay per step of the moving average of the weights that is kept; 0: none.")
    min_steps: int = _option(
        0, "Least number of training steps: of a small folder more epochs are trained to reach it; 0: none."
    )
    layer_decay: float = _option(1.0, "Factor on the learning rate per layer from the head down (timm models).")
    backbone_lr_scale: float = _option(1.0, "Learning rate of everything but the classifier, as a share of it.")
    early_stopping_patience: int = _option(0, "Evaluations without a better metric before training ends; 0: never.")
    precision: str = _option(
        "auto",
        "Number format of the forward pass: auto takes bf16 where the hardware computes in it.",
        choices=["auto", "fp32", "bf16", "fp16"],
    )
    channels_last: bool = _option(True, "Keep images and convolutions in NHWC memory order, faster on CPU and GPU.")
    cache_features: int = _option(
        0,
        "Augmented copies of each training image whose features are computed once, in place of new ones in every "
        "epoch, where all layers below the head are frozen; an epoch goes over all copies; 0: none.",
    )
    search_trials: int = _option(
        0, "Optuna trials over learning rate, dropout, batch size, weight decay before the run; 0: none."
    )
    resume_with_changes: bool = _option(
        False,
        "Let --resume_from_checkpoint go on with another batch size, learning rate, number of epochs, steps or "
        "processes than the run was begun with.",
    )
    export: bool = _option(True, "Write the ONNX files and the guard; false: for a model that is only evaluated.")
    teacher: str | None = _option(
        None,
        "Model folder or Hub id of a trained model with the same classes: the network is trained to give its answers "
        "to the same augmented images too (knowledge distillation; Hinton 2015).",
        group="distillation",
    )
    teacher_weight: float = _option(
        0.5, "Share of the loss that compares with the teacher, above 0 and at most 1; the labels have the rest."
    )
    teacher_temperature: float = _option(
        2.0,
        "What both models' logits are divided by for that comparison; higher: the smaller probabilities count more.",
    )

    def __post_init__(self) -> None:
        for name in (
            "translation",
            "zoom",
            "horizontal_flip",
            "brightness",
            "contrast",
            "contrast_variation",
            "ema_decay",
            "progressive_share",
        ):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"--{name} {getattr(self, name)}: give a number from 0 to 1.")
        for name in (
            "grafts",
            "lesions",
            "mixup",
            "cutmix",
            "guidance",
            "guidance_extent",
            "rotation",
            "early_stopping_patience",
            "search_trials",
            "cache_features",
            "min_steps",
        ):
            if getattr(self, name) < 0:
                raise ConfigError(f"--{name} {getattr(self, name)}: give 0 or more.")
        changing = ("mixup", "cutmix", "guidance", "progressive_size", "search_trials")
        if self.cache_features and (others := [name for name in changing if getattr(self, name)]):
            raise ConfigError(
                f"--cache_features and --{others[0]}: the latter needs new features each time; set it to 0."
            )
        if self.progressive_size and self.progressive_size < 32:
            raise ConfigError(f"--progressive_size {self.progressive_size}: give at least 32 pixels, or 0.")
        if self.final_output_stride not in (0, 8, 16, 32):
            raise ConfigError(f"--final_output_stride {self.final_output_stride}: give 8, 16 or 32, or 0 for none.")
        if self.teacher_temperature <= 0:
            raise ConfigError(f"--teacher_temperature {self.teacher_temperature}: give a number above 0.")
        for name in ("layer_decay", "backbone_lr_scale", "teacher_weight"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError(f"--{name} {getattr(self, name)}: give a factor above 0 and at most 1.")

    @property
    def is_guided(self) -> bool:
        """Whether boxes take part in the loss."""
        return self.guidance > 0 or self.guidance_extent > 0


@dataclass
class EvaluationArguments:
    """What `evaluate_model.py` can be told."""

    model_dir: str = _option("", "The model folder that train.py left, or a Hub id.")
    batch_size: int = _option(0, "Images per forward pass and process; 0: 8 on a CPU, 64 on a GPU.")
    output_dir: str | None = _option(None, "Where the evaluation goes; default: <model_dir>/evaluation.")
    data_name: str | None = _option(
        None, "What the records and the card call images of another source; default: the name of their folder."
    )
    part: str | None = _option(
        None, "Evaluate only the images whose row of patients.csv has this value in its column `part`; default: all."
    )
    patient_wise: str | None = _option(
        None, "Folder that brain_mri.crossval filled: its figures go into the evaluation and the card."
    )
