"""A model folder's ONNX files: one forward pass to logits, embedding and evidence, in float32 and in int8.

Labels and preprocessing are in the file's metadata, so that `brain_mri.inference` needs neither torch nor transformers.
"""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from datasets import Dataset
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from transformers import PreTrainedModel

from brain_mri.data.prepare import batches, evenly_spread
from brain_mri.data.transforms import Preprocessing
from brain_mri.inference.onnx_model import METADATA, OnnxModel
from brain_mri.model_folder import FLOAT32_FILE, INT8_FILE
from brain_mri.models.evidence import OnePass
from brain_mri.utils.files import written_whole

EXPORT_STEPS = 4  # the float32 file, its answers, the int8 file, its answers
PARITY = 1e-3  # largest difference of a logit between the network and its ONNX file
_OPSET = 20
_CALIBRATION_IMAGES = 200  # of validation; their activations set the int8 ranges
_CALIBRATION_BATCH = 8
_MOST_ACCURACY_LOST = 0.002
_FLOAT_SHARES = (0.0, 0.25, 0.5)  # of the convolutions, from the first on, to leave in float32; tried in this order
_NO_EVIDENCE = (
    "none: the logits are no linear function of average-pooled features, so no map of a forward pass is exact"
)


@dataclass(frozen=True)
class Quantized:
    """How int8 changes the predictions on the validation images.

    Attributes:
        kept: whether the int8 file was written.
        accuracy: of the float32 file and of the int8 file, as fractions.
        same_label: the share of the images that both give the same label.
        n: how many images.
        float_share: the share of the convolutions, from the first on, that stayed in float32.
    """

    kept: bool
    accuracy: tuple[float, float]
    same_label: float
    n: int
    float_share: float

    def in_words(self) -> str:
        """A line for the console."""
        but = f" except the first {self.float_share:.0%} of the convolutions" if self.float_share else ""
        float32, int8 = self.accuracy
        kept = "kept" if self.kept else "not kept"
        return f"int8{but}: validation accuracy {int8:.4f}, in float32 {float32:.4f}: {kept}"


def export_onnx(model: PreTrainedModel, preprocessing: Preprocessing, folder: Path) -> Path:
    """Write `onnx/model.onnx` into a model folder, whole or not at all.

    Its outputs are those of `evidence.OnePass`; the batch size is dynamic.

    Raises:
        RuntimeError: the file's logits differ from the network's by more than `PARITY`.
    """
    one_pass = OnePass(model).to("cpu").eval()
    example = torch.rand(2, 3, preprocessing.size, preprocessing.size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's notes on its own internals
        program = torch.onnx.export(
            one_pass,
            (example,),
            input_names=["pixel_values"],
            output_names=list(one_pass.output_names),
            dynamic_shapes={"pixel_values": {0: torch.export.Dim("batch", min=1, max=4096)}},
            opset_version=_OPSET,
            dynamo=True,
            verbose=False,
        )
        expected = one_pass(example)[0].numpy()
    assert program is not None, "with dynamo=True the exporter returns the program"
    proto = program.model_proto
    onnx.helper.set_model_props(proto, {METADATA: json.dumps(metadata(model, preprocessing, one_pass.output_names))})
    path = folder / FLOAT32_FILE
    with written_whole(path) as partial:
        onnx.save(proto, partial)
    found = OnnxModel(path).run(example.numpy())["logits"]
    if (worst := float(np.abs(found - expected).max())) > PARITY:
        path.unlink()
        raise RuntimeError(f"the ONNX file's logits differ from the network's by {worst:.2g}, more than {PARITY}")
    return path


def metadata(model: PreTrainedModel, preprocessing: Preprocessing, outputs: Sequence[str]) -> dict[str, Any]:
    """What a file says of itself: labels, in the order of the logits, and how a picture becomes its input.

    Pixels in [0, 1] are resized to `size` by Pillow's filter number `resample`; then `mean` is subtracted, and they are
    divided by `std`. `outputs` are the names of the file's.
    """
    names = [model.config.id2label[i] for i in range(model.config.num_labels)]
    exact = "class activation maps: the mean over their places, plus the bias, is the logit"
    return {
        "label_names": names,
        "size": preprocessing.size,
        "mean": preprocessing.mean,
        "std": preprocessing.std,
        "resample": int(preprocessing.resample),
        "evidence": exact if "evidence" in outputs else _NO_EVIDENCE,
    }


def quantize(
    folder: Path, rows: Dataset, preprocessing: Preprocessing, step: Callable[[], None] = lambda: None
) -> Quantized:
    """Write `onnx/model_quantized.onnx` (static int8, per channel) if it costs at most 0.2 points of accuracy.

    If full int8 costs more, the early convolutions, the depthwise ones and the sums stay in float32: early errors pass
    through all later layers, while most weights are in the late ones. Classifier and evidence always stay in float32:
    they are small, and contain the calibration.

    The activation ranges come from some of `rows`, the validation images; the accuracy is that on all of them.
    `step` is called after each of the `EXPORT_STEPS` but the first, and twice more for each further attempt.
    """
    whole, target = folder / FLOAT32_FILE, folder / INT8_FILE
    truth, expected = np.asarray(rows["label"][:]), _labels(OnnxModel(whole), rows, preprocessing)
    step()
    accuracy = float((expected == truth).mean())
    with tempfile.TemporaryDirectory(dir=whole.parent) as scratch:
        prepared, small = Path(scratch) / "prepared.onnx", Path(scratch) / "int8.onnx"
        quant_pre_process(str(whole), str(prepared), skip_symbolic_shape=True)
        logging.getLogger().setLevel(logging.WARNING)
        for share in _FLOAT_SHARES:
            _write_int8(prepared, small, _Slices(rows, preprocessing), share)
            step()
            predicted = _labels(OnnxModel(small), rows, preprocessing)
            step()
            reached = float((predicted == truth).mean())
            if kept := accuracy - reached <= _MOST_ACCURACY_LOST:
                small.replace(target)
                break
    return Quantized(kept, (accuracy, reached), float((predicted == expected).mean()), len(rows), share)


def _write_int8(prepared: Path, target: Path, slices: CalibrationDataReader, float_share: float) -> None:
    quantize_static(
        str(prepared),
        str(target),
        slices,
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["Conv", "Add", "Clip", "Relu"],
        nodes_to_exclude=_kept_in_float(onnx.load(prepared), float_share) if float_share else [],
    )


def _kept_in_float(model: onnx.ModelProto, share: float) -> list[str]:
    """The names of the first `share` of the convolutions, of all depthwise ones, and of the sums."""
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    early = convolutions[: round(share * len(convolutions))]
    depthwise = [node for node in convolutions if any(a.name == "group" and a.i > 1 for a in node.attribute)]
    sums = [node for node in model.graph.node if node.op_type == "Add"]
    return sorted({node.name for node in (*early, *depthwise, *sums)})


class _Slices(CalibrationDataReader):  # type: ignore[misc]
    """Slices evenly spread over the rows, for onnxruntime's calibrator."""

    def __init__(self, rows: Dataset, preprocessing: Preprocessing) -> None:
        self._batches = batches(evenly_spread(rows, _CALIBRATION_IMAGES), preprocessing, _CALIBRATION_BATCH)

    def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"pixel_values": batch}


def _labels(session: OnnxModel, rows: Dataset, preprocessing: Preprocessing) -> npt.NDArray[np.int64]:
    return np.concatenate([session.run(batch)["logits"].argmax(axis=1) for batch in batches(rows, preprocessing)])
