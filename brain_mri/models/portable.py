"""Write a trained model for OpenVINO (Intel) or LiteRT (Android, iOS, small boards), beside its ONNX files.

    brain-mri export MODEL --to openvino        MODEL/openvino/openvino_model.xml and .bin; pip install openvino
    brain-mri export MODEL --to litert          MODEL/litert/model.tflite; pip install litert-torch

The file gives logits, embedding, evidence and texture in float32, as onnx/model.onnx does: it is written only if all of
them agree. model.json beside it says the labels and how a picture becomes its input.

It is the network alone. Guard and thresholds decide what may be said of a picture, and they are fitted to the ONNX file
that is served: choose them anew for another, or tumours are answered as healthy more often (docs/exports.md).
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from brain_mri.errors import ConfigError, run_command
from brain_mri.model_folder import ABOUT, LITERT_FILE, OPENVINO_FILE, check_named
from brain_mri.utils.files import write_json, written_whole
from brain_mri.utils.imports import importing

Outputs = dict[str, npt.NDArray[np.float32]]
_TOLERANCE = 1e-3  # of every output, relative and absolute; of logits it is `export.PARITY`


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        path: of the file, within a model folder.
        module: that writes it.
        package: that has the module, for pip.
        write: writes a network: the model, its ONNX file, a picture (1, 3, size, size), the path.
        run: the outputs of a file for a picture, by name; the names in their order are given.
    """

    path: str
    module: str
    package: str
    write: Callable[[Any, Path, npt.NDArray[np.float32], Path], None]
    run: Callable[[Path, npt.NDArray[np.float32], Sequence[str]], Outputs]


def export_to(kind: str, model: str, folder: Path) -> float:
    """Write a model in another format, whole or not at all.

    Args:
        kind: a name of `FORMATS`.
        model: a model folder or an id on the Hub.
        folder: below which it is written; what was there of the same kind is replaced.

    Returns:
        The largest difference of a logit to that of the ONNX file.

    Raises:
        ConfigError: there is no such model, or the package is missing.
        RuntimeError: an output differs from the ONNX file's.
    """
    form = FORMATS[kind]
    if find_spec(form.module) is None:
        raise ConfigError(f"--to {kind}: pip install {form.package} first.")
    check_named(model)
    from brain_mri.inference.onnx_model import OnnxModel
    from brain_mri.models.export import export_onnx, metadata

    network, preprocessing = _load(model)
    picture = np.random.default_rng(0).random((1, 3, preprocessing.size, preprocessing.size), dtype=np.float32)
    target = folder / form.path
    with tempfile.TemporaryDirectory() as scratch, written_whole(target.parent, folder=True) as partial:
        exported = export_onnx(network, preprocessing, Path(scratch))
        expected = OnnxModel(exported).run(picture)
        form.write(network, exported, picture, partial / target.name)
        worst = _compared(form.run(partial / target.name, picture, list(expected)), expected, kind)
        about = metadata(network, preprocessing, list(expected))
        write_json(about | {"input": list(picture.shape), "outputs": list(expected)}, partial / ABOUT)
        shutil.rmtree(target.parent, ignore_errors=True)
    return worst


def _load(model: str) -> tuple[Any, Any]:
    import torch
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    from brain_mri.data.transforms import Preprocessing

    try:
        network = AutoModelForImageClassification.from_pretrained(model, dtype=torch.float32).eval()
        return network, Preprocessing.of(AutoImageProcessor.from_pretrained(model))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{model} can't be loaded ({str(error).strip().splitlines()[0]}).") from error


def _compared(found: Outputs, expected: Mapping[str, npt.NDArray[np.float32]], kind: str) -> float:
    """The largest difference of a logit, after a look at all outputs."""
    for name, values in expected.items():
        if not np.allclose(found[name], values, rtol=_TOLERANCE, atol=_TOLERANCE):
            worst = float(np.abs(found[name] - values).max())
            raise RuntimeError(f"the {kind} file's {name} differs from the ONNX file's by {worst:.2g}: not written")
    return float(np.abs(found["logits"] - expected["logits"]).max())


def _write_openvino(network: Any, exported: Path, picture: npt.NDArray[np.float32], path: Path) -> None:
    import openvino

    openvino.save_model(openvino.Core().read_model(exported), path, compress_to_fp16=False)


def run_openvino(path: Path, picture: npt.NDArray[np.float32], names: Sequence[str]) -> Outputs:
    """The outputs of an OpenVINO file on this machine's CPU, in float32 also where it could compute in bf16."""
    import openvino

    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled(picture)
    return {name: found[compiled.output(name)] for name in names}


def _write_litert(network: Any, exported: Path, picture: npt.NDArray[np.float32], path: Path) -> None:
    import litert_torch
    import torch

    from brain_mri.models.evidence import OnePass

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the converter's notes on its own internals
        litert_torch.convert(OnePass(network).eval(), (torch.from_numpy(picture),)).export(str(path))


def run_litert(path: Path, picture: npt.NDArray[np.float32], names: Sequence[str]) -> Outputs:
    """The outputs of a LiteRT file; it calls them output_0, output_1 and so on, in the order of `names`."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(str(path)).get_signature_runner()
    found = runner(args_0=picture)
    return {name: found[f"output_{place}"] for place, name in enumerate(names)}


FORMATS = {
    "openvino": Format(OPENVINO_FILE, "openvino", "openvino", _write_openvino, run_openvino),
    "litert": Format(LITERT_FILE, "litert_torch", "litert-torch", _write_litert, run_litert),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Write the model that the command line names."""
    parser = argparse.ArgumentParser(
        prog="brain-mri export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="a model folder that train.py left, or a Hub id")
    parser.add_argument("--to", required=True, choices=list(FORMATS), help="what to write")
    parser.add_argument("--output", type=Path, help="where to (default: the model folder; of a Hub id: outputs/NAME)")
    options = parser.parse_args(argv)
    own = Path(options.model)
    folder = options.output or (own if own.is_dir() else Path("outputs") / own.name)
    with importing():
        worst = export_to(options.to, options.model, folder)
    path = folder / FORMATS[options.to].path
    print(f"{path}: logits within {worst:.1g} of the float32 ONNX file's.")
    print("Guard and thresholds belong to the ONNX file that is served: choose them anew. Never diagnosis.")


if __name__ == "__main__":
    run_command(main)
