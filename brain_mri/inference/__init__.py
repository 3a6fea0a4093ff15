"""One ONNX pass becomes an answer, its evidence or a refusal. No torch.

`from brain_mri.inference import BrainMRIClassifier` is the front door; it is loaded on first use, so that the modules
beside it, which need numpy alone, do not load onnxruntime.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from brain_mri.inference.classifier import BrainMRIClassifier

__all__ = ["BrainMRIClassifier"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from brain_mri.inference import classifier

    return getattr(classifier, name)
