"""Knowledge distillation: a trained model, the teacher, whose answers a network is trained to give too.

Hinton 2015 (https://arxiv.org/abs/1503.02531). The teacher sees the very images that the network sees, augmented and
mixed (Beyer 2022, https://arxiv.org/abs/2106.05237).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from brain_mri.arguments import EvaluationArguments
from brain_mri.data.transforms import Preprocessing
from brain_mri.errors import ConfigError
from brain_mri.evaluation.predict import label_names_of, load_model
from brain_mri.labels import align_labels
from brain_mri.models.fuse import fuse_batch_norms
from brain_mri.models.layers import is_timm
from brain_mri.utils.hardware import autocast_dtype

_NAMED = 6  # classes that a message names


class Teacher:
    """A model in evaluation mode, without gradients. It is no part of the network that is trained, sharded or saved."""

    def __init__(
        self, name: str, model: PreTrainedModel, preprocessing: Preprocessing, precision: str = "auto"
    ) -> None:
        """Hold `model`, whose own preprocessing is given, under the name that the user gave it.

        `precision` is that of the recipe; what `auto` means depends on the teacher's own layers.
        """
        self.name, self._precision = name, precision
        self._preprocessing = preprocessing
        self._model = fuse_batch_norms(model, preprocessing.size).requires_grad_(False).eval()
        self._takes_any_size = is_timm(model.config) and not model.config.pretrained_cfg.get("fixed_input_size")
        names = label_names_of(model)
        self._column_of = {label: names.index(name) for name, label in align_labels(names).items()}
        self._order: list[int] = []

    @classmethod
    def load(cls, name: str, precision: str) -> Teacher:
        """The teacher in a model folder, or on the Hub.

        Raises:
            ConfigError: there is no image classifier, or its preprocessing is not resize, rescale and normalise.
            DataError: two of its classes mean the same.
        """
        return cls(name, *load_model(EvaluationArguments(model_dir=name)), precision)

    def match(self, label_names: Sequence[str]) -> None:
        """Bring the teacher's answers into the order of `label_names`; its classes are known by their names.

        Raises:
            ConfigError: the teacher has other classes.
        """
        if set(label_names) != set(self._column_of):
            raise ConfigError(
                f"--teacher {self.name} knows the classes {_listed(self._column_of)}, the images have "
                f"{_listed(label_names)}: choose a teacher that was trained on the same classes."
            )
        self._order = [self._column_of[label] for label in label_names]

    def fingerprint(self) -> str:
        """A hash of what its answers depend on."""
        weights = b"".join(value.cpu().numpy().tobytes() for value in self._model.state_dict().values())
        return hashlib.sha256(f"{self._preprocessing.key} {self._order}".encode() + weights).hexdigest()

    def __call__(self, pixels: Tensor) -> Tensor:
        """What the teacher says of augmented images.

        Args:
            pixels: (batch, 3, H, W), floats in [0, 255], of any size. Those of another size than the teacher's are
                resized to it, but smaller ones stay as they are if its network takes them: enlarged pictures are
                blurred ones, and a classifier of slices finds fewer tumours in these (docs/training.md).

        Returns:
            Logits (batch, k), float32, in the order given to `match`.
        """
        side = self._preprocessing.size
        if pixels.shape[2] > side or (pixels.shape[2] < side and not self._takes_any_size):
            pixels = functional.interpolate(pixels, (side, side), mode="bilinear", antialias=True).clamp(0, 255)
        pixel_values = self._preprocessing.normalize(pixels).contiguous(memory_format=torch.channels_last)
        self._model.to(pixels.device, memory_format=torch.channels_last)
        dtype = autocast_dtype(self._precision, pixels.device, self._model)
        with torch.no_grad(), torch.autocast(pixels.device.type, dtype) if dtype else nullcontext():
            logits: Tensor = self._model(pixel_values=pixel_values).logits.float()
        return logits[:, self._order]


def _listed(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:_NAMED]) + (f" ... ({len(listed)})" if len(listed) > _NAMED else "")


def distillation_loss(logits: Tensor, taught: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """How far a network's answers are from its teacher's: Kullback-Leibler divergence times temperature squared.

    Where the teacher names another class than the label, the label takes its place. So no mistake of a teacher is
    taught, above all no false all-clear.

    Args:
        logits: (batch, k), the network's.
        taught: (batch, k), the teacher's.
        targets: (batch,) class indices, or (batch, k) probabilities of mixed images.
        temperature: divides both before their softmax (Hinton 2015, section 2).
    """
    truth = functional.one_hot(targets, taught.shape[1]).to(taught.dtype) if targets.ndim == 1 else targets
    right = taught.argmax(dim=1) == truth.argmax(dim=1)
    wanted = torch.where(right[:, None], functional.softmax(taught / temperature, dim=1), truth)
    said = functional.log_softmax(logits / temperature, dim=1)
    return functional.kl_div(said, wanted, reduction="batchmean") * temperature**2
