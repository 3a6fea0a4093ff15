"""Loading a model folder and running it on prepared images."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import AutoImageProcessor, AutoModelForImageClassification, PreTrainedModel

from brain_mri.arguments import EvaluationArguments
from brain_mri.data.transforms import Collator, Preprocessing
from brain_mri.errors import ConfigError
from brain_mri.evaluation.prediction_table import PredictionTable
from brain_mri.inference.guard import joined
from brain_mri.inference.postprocess import softmax
from brain_mri.models.evidence import OnePass
from brain_mri.models.fuse import fuse_batch_norms
from brain_mri.utils.progress import each

logger = logging.getLogger(__name__)
_CPU_BATCH, _GPU_BATCH = 8, 64  # on a CPU, more than its caches hold takes twice the time for each image


@dataclass(frozen=True)
class Predictions:
    """A model's outputs on a set of images.

    Attributes:
        logits: float32 (n, k), in the order of the images.
        labels: int64 (n,), indices of the model's labels.
        embeddings: float32 (n, d), what the guard reads, see `guard.joined`.
        evidence: float32 (n, k, h, w), see `evidence.evidence_maps`; None if the model has no exact maps.
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
        raise ConfigError("which model? Use: brain-mri evaluate <model folder or Hub id> --data_dir <folder>")
    try:
        model = AutoModelForImageClassification.from_pretrained(args.model_dir, dtype=torch.float32)
        processor = AutoImageProcessor.from_pretrained(args.model_dir)
    except (OSError, ValueError) as error:
        if not Path(args.model_dir).is_dir():
            raise ConfigError(
                f"{args.model_dir}: no such folder, and the Hub gave no model of that id: check the path or the id, "
                "the network, and for a private model `hf auth login`."
            ) from error
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(f"{args.model_dir} holds no image classifier that can be loaded ({reason}).") from error
    return model.eval(), Preprocessing.of(processor)


def prediction_table(predictions: Predictions, rows: Dataset, label_names: Sequence[str]) -> PredictionTable:
    """The probabilities with the names and patients of their images, for storing."""
    names, groups = tuple(rows["file_name"][:]), tuple(rows["patient_group"][:])
    return PredictionTable(names, groups, predictions.labels, predictions.probabilities, tuple(label_names))


def predict(
    model: PreTrainedModel, rows: Dataset, preprocessing: Preprocessing, batch_size: int = 0, phase: str = "Predicting"
) -> Predictions:
    """Forward passes over prepared rows, shared by all processes; every image counts once, in order.

    `batch_size` is that of each process; 0 means `_CPU_BATCH` or `_GPU_BATCH`. The progress bar is named `phase`.
    """
    accelerator = Accelerator()
    on_cpu = accelerator.device.type == "cpu"
    if on_cpu and not accelerator.is_fsdp2:
        model = fuse_batch_norms(model, preprocessing.size)
    loader = DataLoader(
        rows.select_columns(["pixels", "label"]),
        batch_size=batch_size or (_CPU_BATCH if on_cpu else _GPU_BATCH),
        collate_fn=Collator(preprocessing.size),
    )
    accelerator.native_amp = False  # as `pipeline` does, whatever the launch was configured for
    plain = OnePass(model).eval()
    one_pass = accelerator.prepare_model(plain, evaluation_mode=accelerator.is_fsdp2)
    loader = accelerator.prepare(loader)
    gathered: list[list[npt.NDArray[Any]]] = []
    with torch.inference_mode():
        for batch in each(loader, phase, len(loader)):
            pixel_values = preprocessing.normalize(batch["pixel_values"]).contiguous(memory_format=torch.channels_last)
            # gather_for_metrics drops what pads the last batch to equal shares
            outputs = accelerator.gather_for_metrics((batch["labels"], *one_pass(pixel_values)))
            # copied, because torch's blocks would keep the memory between them from being reused: 100 KB an image
            gathered.append([output.cpu().numpy().copy() for output in outputs])
    labels, *outputs = (np.concatenate(column) for column in zip(*gathered, strict=True))
    named = dict(zip(plain.output_names, outputs, strict=True))
    return Predictions(named["logits"], labels, joined(named), named.get("evidence"))


def label_names_of(model: PreTrainedModel) -> list[str]:
    """The model's labels in the order of its logits."""
    return [model.config.id2label[i] for i in range(model.config.num_labels)]
