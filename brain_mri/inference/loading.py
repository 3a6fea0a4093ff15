"""What a classifier is loaded from: a model's files from the Hub, and the guard of a model folder. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from brain_mri.errors import BrainMRIError, ConfigError
from brain_mri.inference.guard import Guard, joined
from brain_mri.inference.onnx_model import Float32
from brain_mri.model_folder import CALIBRATION, CONFIG, EVIDENCE, GUARD, GUARD_TENSORS

_FILES = (CONFIG, CALIBRATION, EVIDENCE, GUARD, GUARD_TENSORS)


def usable_guard(folder: Path, outputs: dict[str, Float32]) -> tuple[Guard | None, str | None]:
    """The folder's guard, if it is whole and takes this model's outputs; else the reason why there is none."""
    try:
        guard = Guard.load(folder)
        guard.score(joined(outputs))
    except BrainMRIError as error:
        return None, str(error)
    return guard, None


def download(model: str, revision: str | None, onnx_files: Sequence[str]) -> Path:
    """A model from the Hub: the small files, and the first of `onnx_files` that it has."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=[*_FILES, *onnx_files]))
    except HFValidationError as error:
        raise ConfigError(f"{model} is neither a folder here nor the id of a model on the Hub (USER/NAME).") from error
    except Exception as error:  # network, rights, no such repository: each library below raises its own
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"{model} is no folder here and can't be loaded from the Hub ({reason}): check the name, the network "
            "(HF_HUB_OFFLINE), and for a private model `hf auth login`."
        ) from error
