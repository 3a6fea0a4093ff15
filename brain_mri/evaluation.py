"""Judging a model folder on images: which images, the forward passes, the figures, the files."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from datasets import Dataset
from PIL import Image
from torch.utils.data import DataLoader
from transformers import AutoImageProcessor, AutoModelForImageClassification, PreTrainedModel

from brain_mri import plots
from brain_mri.arguments import DataArguments, EvaluationArguments
from brain_mri.data import PreparedImages, fingerprint, split_images
from brain_mri.decisions import softmax
from brain_mri.ensemble import Answers
from brain_mri.errors import ConfigError, DataError
from brain_mri.evidence import OnePass
from brain_mri.folding import folded
from brain_mri.guard import joined
from brain_mri.layout import WHOLE
from brain_mri.localization import localization
from brain_mri.metrics import compute
from brain_mri.scores import Scores, worst_mistakes
from brain_mri.transforms import Collator, Preprocessing, unpack

logger = logging.getLogger(__name__)

CALIBRATION = "calibration.json"
EVIDENCE = "evidence.json"
_CPU_BATCH, _GPU_BATCH = 8, 64  # on a CPU, more than its caches hold takes twice the time for each image
_SPLIT_OPTIONS = ("validation_fraction", "test_fraction", "split_seed", "twin_threshold")
_SAME_DATA_OPTIONS = ("streaming", "data_revision")


@dataclass(frozen=True)
class Predictions:
    """What a model said of a set of images.

    Attributes:
        logits: float32 (n, k), in the order of the images.
        labels: int64 (n,), indices of the model's labels.
        embeddings: float32 (n, d), what the guard reads, see `guard.joined`.
        evidence: float32 (n, k, h, w), see `evidence.evidence_maps`; None of a model that has no exact maps.
    """

    logits: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    embeddings: npt.NDArray[np.float32]
    evidence: npt.NDArray[np.float32] | None = None

    @property
    def probabilities(self) -> npt.NDArray[np.float64]:
        """Softmax of the logits, (n, k)."""
        return softmax(self.logits)

    def select(self, kept: Sequence[int]) -> Predictions:
        """The predictions of some of the images."""
        rows = np.asarray(kept, dtype=np.int64)
        evidence = None if self.evidence is None else self.evidence[rows]
        return Predictions(self.logits[rows], self.labels[rows], self.embeddings[rows], evidence)


def load_model(args: EvaluationArguments) -> tuple[PreTrainedModel, Preprocessing]:
    """The model and its own preprocessing, from a folder or the Hub, as `pipeline` loads them.

    Raises:
        ConfigError: there is no model of that name.
    """
    if not args.model_dir:
        raise ConfigError("which model? Use: evaluate_model.py <model folder or Hub id> --data_dir <folder>")
    try:
        model = AutoModelForImageClassification.from_pretrained(args.model_dir, dtype=torch.float32)
        processor = AutoImageProcessor.from_pretrained(args.model_dir)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(f"{args.model_dir} holds no image classifier that can be loaded ({reason}).") from error
    return model.eval(), Preprocessing.of(processor)


def run_record(model_dir: str) -> dict[str, Any]:
    """The `run.json` that train.py left beside the model; {} for a model that has none."""
    path = Path(model_dir) / "run.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def trained_split_options(data_args: DataArguments, record: dict[str, Any]) -> DataArguments:
    """The data arguments with the training run's own split options, so that its held-out images are found again.

    Of the data that it streamed, the train split isn't read here either.
    """
    before = record.get("data", {})
    names = _SPLIT_OPTIONS + (_SAME_DATA_OPTIONS if before.get("data_dir") == data_args.data_dir else ())
    return replace(data_args, **{name: before[name] for name in names if name in before})


def images_to_judge(images: PreparedImages, data_args: DataArguments, record: dict[str, Any]) -> tuple[Dataset, str]:
    """The test split; where the data has none, what training held out of it, or, for other data, all of it.

    Returns:
        The rows, and in words which they are.
    """
    given = set(images.rows["split"][:])
    if "test" in given:
        rows = images.rows
        chosen = [i for i, split in enumerate(rows["split"][:]) if split == "test"]
        return rows.select(chosen), "the test split"
    if record.get("data_fingerprint") == fingerprint(images):
        return split_images(images, data_args)["test"], "the test images that training held out"
    if record.get("data", {}).get("data_dir") == data_args.data_dir:
        raise DataError(
            f"{data_args.data_dir} has changed since the training, so the images that it held out can't be told any "
            "more: give the folder as it was, or one of images that were not trained on."
        )
    if given == {WHOLE}:
        return images.rows, "all images of another folder than that of the training"
    raise DataError(f"{data_args.data_dir} has no test split: add a test/ folder beside {sorted(given)}.")


def with_model_labels(rows: Dataset, label_names: tuple[str, ...], model: PreTrainedModel) -> Dataset:
    """The rows with each label as the index that the model gives it, matched by name.

    Raises:
        DataError: a class of the data is none of the model's.
    """
    known = model.config.label2id
    if unknown := [name for name in label_names if name not in known]:
        raise DataError(
            f"the model knows {', '.join(known)}, but the data has {', '.join(unknown)}: name the folders alike."
        )
    ids = [int(known[name]) for name in label_names]
    return rows.remove_columns("label").add_column("label", [ids[label] for label in rows["label"][:]])


def output_files(args: EvaluationArguments, external: str | None) -> tuple[Path, Path]:
    """Where the plots go, and the file of the figures; a model from the Hub has no folder of its own here.

    Data that the model was not trained for, `external`, gets files of its own name, beside those of its test split.
    """
    local = Path(args.model_dir)
    usual = local / "evaluation" if local.is_dir() else Path("outputs") / "evaluation" / local.name
    folder = Path(args.output_dir) if args.output_dir else usual
    if external is None:
        return folder, folder / "results.json"
    name = "external_" + re.sub(r"[^\w.-]+", "-", external)
    return folder / name, folder / f"{name}.json"


def answers(predictions: Predictions, rows: Dataset, label_names: Sequence[str]) -> Answers:
    """The probabilities with the names and patients of their images, to be stored."""
    names, groups = tuple(rows["file_name"][:]), tuple(rows["patient_group"][:])
    return Answers(names, groups, predictions.labels, predictions.probabilities, tuple(label_names))


def predict(model: PreTrainedModel, rows: Dataset, preprocessing: Preprocessing, batch_size: int = 0) -> Predictions:
    """Forward passes over prepared rows, on all processes there are; every image counts once, in its place.

    `batch_size` is that of each process; 0 is `_CPU_BATCH` or `_GPU_BATCH`.
    """
    accelerator = Accelerator()
    on_cpu = accelerator.device.type == "cpu"
    if on_cpu and not accelerator.is_fsdp2:
        model = folded(model, preprocessing.size)
    loader = DataLoader(
        rows.select_columns(["pixels", "label"]),
        batch_size=batch_size or (_CPU_BATCH if on_cpu else _GPU_BATCH),
        collate_fn=Collator(preprocessing.size),
    )
    accelerator.native_amp = False  # `pipeline` answers in float32, whatever the launch was configured for
    plain = OnePass(model).eval()
    one_pass = accelerator.prepare_model(plain, evaluation_mode=accelerator.is_fsdp2)
    loader = accelerator.prepare(loader)
    gathered: list[list[npt.NDArray[Any]]] = []
    with torch.inference_mode():
        for batch in loader:
            pixel_values = preprocessing.normalize(batch["pixel_values"]).contiguous(memory_format=torch.channels_last)
            # gather_for_metrics drops what pads the last batch to equal shares
            outputs = accelerator.gather_for_metrics((batch["labels"], *one_pass(pixel_values)))
            # copied: torch's own blocks, kept, stop what lies between them from being used again: 100 KB an image
            gathered.append([output.cpu().numpy().copy() for output in outputs])
    labels, *outputs = (np.concatenate(column) for column in zip(*gathered, strict=True))
    named = dict(zip(plain.output_names, outputs, strict=True))
    return Predictions(named["logits"], labels, joined(named), named.get("evidence"))


def calibration_scores(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> dict[str, float]:
    """The two figures that a temperature moves: negative log-likelihood (nats) and expected calibration error."""
    names = ("negative_log_likelihood", "expected_calibration_error")
    return {name: compute(name, probabilities, labels)[name] for name in names}


def evidence_figures(predictions: Predictions, rows: Dataset, label_names: Sequence[str]) -> dict[str, Any]:
    """`localization` of the predictions' maps, for the rows that have a box; {} without maps or boxes."""
    if predictions.evidence is None:
        return {}
    groups = rows["patient_group"][:]
    return localization(predictions.evidence, predictions.labels, rows["box"][:], label_names, groups)


def label_names_of(model: PreTrainedModel) -> list[str]:
    """The model's labels in the order of its logits."""
    return [model.config.id2label[i] for i in range(model.config.num_labels)]


def draw(predictions: Predictions, scores: Scores, folder: Path, calibration: dict[str, Any]) -> None:
    """Write the plots into `folder`; `calibration` is the model's `calibration.json`, {} for a model without."""
    names, probabilities, labels = scores["label_names"], predictions.probabilities, predictions.labels
    plots.confusion_matrix(scores["confusion_matrix"], names, folder / "confusion_matrix.png")
    plots.roc_curves(probabilities, labels, names, folder / "roc.png")
    fitted = calibration and not calibration.get("earlier_stage")  # later training moved on from what was divided
    before = softmax(predictions.logits * calibration["temperature"]) if fitted else None
    plots.reliability_diagram(probabilities, labels, folder / "reliability.png", before=before)
    threshold = calibration["referral"]["threshold"] if calibration else None
    plots.referral_curve(probabilities, labels, folder / "referral.png", threshold=threshold)


def draw_mistakes(predictions: Predictions, rows: Dataset, names: Sequence[str], size: int, folder: Path) -> None:
    """Write `worst_mistakes.png`, the most confident wrong answers, into `folder`; it shows the data: don't publish it.

    The slices are shown as the model saw them, at its input size.
    """
    chosen = worst_mistakes(predictions.probabilities, predictions.labels)
    images, captions = [], []
    for i in chosen:
        said, row = int(predictions.probabilities[i].argmax()), rows[int(i)]
        images.append(Image.fromarray(unpack(row["pixels"], size)[0]))
        captions.append(f"{Path(row['file_name']).name}\n{names[predictions.labels[i]]}, called {names[said]}")
    plots.worst_mistakes(images, captions, folder / "worst_mistakes.png")
