"""An ONNX file of a model folder, and how a picture is turned into what it reads. No torch."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from PIL import Image

from brain_mri.errors import ConfigError
from brain_mri.io.images import one_channel

METADATA = "brain_mri"
_SIZES = (16, 2048)  # pixels

Float32 = npt.NDArray[np.float32]


def usable_cores() -> int:
    """The cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class _Metadata:
    """What the file says of itself, checked."""

    label_names: tuple[str, ...]
    size: int
    mean: Float32  # (3, 1, 1), for pixels in [0, 1]
    std: Float32
    resample: Image.Resampling

    @classmethod
    def read(cls, text: str, path: str) -> _Metadata:
        try:
            about = json.loads(text)
            mean, std = (np.asarray(about[key], dtype=np.float32).reshape(3, 1, 1) for key in ("mean", "std"))
            names, size = tuple(about["label_names"]), about["size"]
            resample = Image.Resampling(about["resample"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ConfigError(f"{path} lacks its metadata, or it is damaged: export the model again.") from error
        if len(names) < 2 or len(set(names)) < len(names) or not all(isinstance(name, str) for name in names):
            raise ConfigError(f"{path}: its metadata does not name two or more different labels: export it again.")
        if not isinstance(size, int) or not _SIZES[0] <= size <= _SIZES[1]:
            raise ConfigError(
                f"{path}: its metadata says pictures of {size!r} pixels, not {_SIZES[0]} to {_SIZES[1]}: "
                "export it again."
            )
        if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
            raise ConfigError(f"{path}: the mean or deviation in its metadata is no number: export it again.")
        return cls(names, size, mean, std, resample)


class OnnxModel:
    """One forward pass: normalised `pixel_values` (batch, 3, size, size) to named outputs.

    Args:
        path: the file, as `brain_mri.models.export` writes it.
        threads: of onnxruntime; default: as many as there are cores this process may run on.

    Raises:
        ConfigError: no such file, or not one of ours.
    """

    def __init__(self, path: str | Path, threads: int | None = None) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or usable_cores()
        options.log_severity_level = 3
        # Idle threads sleep: those that spin would take the cores from others who ask at the same time.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises classes of its own, without a common base
            raise ConfigError(f"{path} is no ONNX file that can be loaded: export the model again.") from error
        properties = self._session.get_modelmeta().custom_metadata_map
        self._about = _Metadata.read(properties.get(METADATA, ""), str(path))
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._path = str(path)

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels in the order of the logits."""
        return self._about.label_names

    @property
    def has_evidence(self) -> bool:
        """Whether the pass gives evidence maps."""
        return "evidence" in self._outputs

    @property
    def size(self) -> int:
        """Height and width, in pixels, of what the network reads."""
        return self._about.size

    def preprocessing(self) -> dict[str, Any]:
        """What turns a picture into what the network reads, for programs in other languages; see `pixel_values`."""
        about = self._about
        return {
            "label_names": list(about.label_names),
            "size": about.size,
            "mean": about.mean.ravel().tolist(),
            "std": about.std.ravel().tolist(),
            "resample": about.resample.name.lower(),
        }

    def blank(self) -> dict[str, Float32]:
        """The outputs for an empty picture, which show that file and metadata fit each other.

        Raises:
            ConfigError: they do not, or the weights are not finite.
        """
        try:
            outputs = self.run(np.zeros((1, 3, self.size, self.size), dtype=np.float32))
        except Exception as error:  # onnxruntime raises classes of its own, without a common base
            raise ConfigError(f"{self._path} does not take pictures of {self.size} pixels: export it again.") from error
        if outputs.get("logits", np.empty(0)).shape != (1, len(self.label_names)):
            raise ConfigError(f"{self._path} does not give one logit for each of its labels: export it again.")
        if not all(np.isfinite(output).all() for output in outputs.values()):
            raise ConfigError(f"{self._path} gives values that are not finite, its weights are damaged: get it anew.")
        return outputs

    def pixel_values(self, image: Image.Image, box: tuple[int, int, int, int] | None = None) -> Float32:
        """Resize, rescale and normalise a picture as the model's own image processor does; (3, size, size).

        Args:
            image: of any size and mode.
            box: (left, top, right, bottom), the part of it to take; default: all.
        """
        resized = one_channel(image).resize((self.size, self.size), self._about.resample, box=box)
        values = np.atleast_3d(np.asarray(resized)).transpose(2, 0, 1).astype(np.float32) / np.float32(255)
        return (values - self._about.mean) / self._about.std

    def run(self, pixel_values: Float32) -> dict[str, Float32]:
        """The outputs by name: `logits` (batch, k), `embedding` (batch, channels), `evidence` (batch, k, h, w)."""
        found = self._session.run(None, {"pixel_values": pixel_values})
        return dict(zip(self._outputs, found, strict=True))
