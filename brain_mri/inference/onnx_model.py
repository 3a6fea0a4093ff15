"""An ONNX file of a model folder, and how a picture is turned into what it reads. No torch."""

from __future__ import annotations

import json
import os
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from PIL import Image

from brain_mri.errors import ConfigError
from brain_mri.io.images import one_channel

METADATA = "brain_mri"

Float32 = npt.NDArray[np.float32]


def usable_cores() -> int:
    """The cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
        if METADATA not in properties:
            raise ConfigError(f"{path} lacks its metadata: export the model with brain_mri.models.export.")
        self._about: dict[str, Any] = json.loads(properties[METADATA])
        self._outputs = [output.name for output in self._session.get_outputs()]

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels in the order of the logits."""
        return tuple(self._about["label_names"])

    @property
    def has_evidence(self) -> bool:
        """Whether the pass gives evidence maps."""
        return "evidence" in self._outputs

    @property
    def size(self) -> int:
        """Height and width, in pixels, of what the network reads."""
        return int(self._about["size"])

    @cached_property
    def _scale(self) -> tuple[Float32, Float32]:
        mean, std = (np.asarray(self._about[key], dtype=np.float32)[:, None, None] for key in ("mean", "std"))
        return mean, std

    def pixel_values(self, image: Image.Image) -> Float32:
        """Resize, rescale and normalise a picture as the model's own image processor does; (3, size, size)."""
        resized = one_channel(image).resize((self.size, self.size), Image.Resampling(self._about["resample"]))
        mean, std = self._scale
        values = np.atleast_3d(np.asarray(resized)).transpose(2, 0, 1).astype(np.float32) / np.float32(255)
        return (values - mean) / std

    def run(self, pixel_values: Float32) -> dict[str, Float32]:
        """The outputs by name: `logits` (batch, k), `embedding` (batch, channels), `evidence` (batch, k, h, w)."""
        found = self._session.run(None, {"pixel_values": pixel_values})
        return dict(zip(self._outputs, found, strict=True))
