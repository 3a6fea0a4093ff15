"""What the tests of the Space share: a model whose answers are known beforehand, and the page serving it.

The network is linear: the class follows from the picture's mean brightness (four bands, dark to light, in the labels'
order), between two bands it is unsure, and its guard knows grey pictures only.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from brain_mri.inference.guard import Guard
from brain_mri.inference.onnx_model import METADATA, OnnxModel
from brain_mri.labels import LABELS
from brain_mri.model_folder import FLOAT32_FILE

ROOT = Path(__file__).parents[2]
SPACE = ROOT / "space"
SIZE = 32
CENTRES = (0.125, 0.375, 0.625, 0.875)
_STEEPNESS = 60.0


def halves(left: float, right: float) -> Image.Image:
    """A picture whose two halves differ; the network sees their mean, its evidence each by itself.

    A black line around it makes it a head before a background; the halves make up for it.
    """
    pixels = np.zeros((64, 64, 3), dtype=np.uint8)
    brighter = (64 / 62) ** 2
    pixels[1:-1, 1:32], pixels[1:-1, 32:-1] = round(left * brighter * 255), round(right * brighter * 255)
    return Image.fromarray(pixels)


def write_model(folder: Path, labels: Sequence[str] = LABELS) -> Path:
    """A model folder of that network, calibrated so that it answers above 90%."""
    (folder / "onnx").mkdir(parents=True)
    onnx.save(_network(labels), folder / FLOAT32_FILE)
    model, rng = OnnxModel(folder / FLOAT32_FILE), np.random.default_rng(0)
    # Validation varies more than training, so that the guard is generous to greys and strict to colours.
    pictures = [grey(x, rng, 0.004 if i < 80 else 0.012) for i, x in enumerate(rng.uniform(0.02, 0.98, 120))]
    embeddings = model.run(np.stack([model.pixel_values(picture) for picture in pictures]))["embedding"]
    Guard.fit(embeddings[:80], np.zeros(80, dtype=int), embeddings[80:]).save(folder)
    calibration = {
        "temperature": 1.5,
        "n": 40,
        "prediction_sets": {"coverage": 0.95, "threshold": 0.2, "method": "LAC"},
        "referral": {"accuracy": 0.99, "threshold": 0.9},
    }
    run = {
        "data": {"data_dir": "grey-pictures"},
        "model": {"image_size": SIZE},
        "splits": {"train": dict.fromkeys(labels, 20)},
    }
    for name, record in {"calibration": calibration, "run": run, "config": {"model_type": "toy"}}.items():
        (folder / f"{name}.json").write_text(json.dumps(record))
    return folder


def _network(labels: Sequence[str]) -> onnx.ModelProto:
    slopes = np.repeat([[2 * _STEEPNESS * c / 3] for c in CENTRES], 3, axis=1).astype(np.float32)[:, :, None, None]
    offsets = np.array([-_STEEPNESS * c * c for c in CENTRES], dtype=np.float32)
    nodes = [
        helper.make_node("AveragePool", ["pixel_values"], ["cells"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Conv", ["cells", "slopes", "offsets"], ["evidence"]),
        helper.make_node("GlobalAveragePool", ["evidence"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["logits"]),
        helper.make_node("GlobalAveragePool", ["pixel_values"], ["colours"]),
        helper.make_node("Flatten", ["colours"], ["embedding"]),
    ]
    shapes = {"logits": ["n", 4], "embedding": ["n", 3], "evidence": ["n", 4, SIZE // 8, SIZE // 8]}
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["n", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [numpy_helper.from_array(slopes, "slopes"), numpy_helper.from_array(offsets, "offsets")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    about = {"label_names": list(labels), "size": SIZE, "mean": [0.0] * 3, "std": [1.0] * 3, "resample": 2}
    helper.set_model_props(proto, {METADATA: json.dumps(about)})
    return proto


def grey(brightness: float, rng: np.random.Generator | None = None, tint: float = 0.004, size: int = 64) -> Image.Image:
    """A grey picture, brighter at the top left, of that mean brightness; with `rng`, a trace of colour."""
    ramp = np.add.outer(np.linspace(0.04, -0.04, size), np.linspace(0.04, -0.04, size))
    pixels = np.repeat((brightness + ramp)[..., None], 3, axis=-1) + (0 if rng is None else rng.normal(0, tint, 3))
    return Image.fromarray((255 * pixels).clip(0, 255).round().astype(np.uint8))


def photograph(size: int = 64) -> Image.Image:
    """A picture in colour: meadow under sky."""
    pixels = np.zeros((size, size, 3), dtype=np.uint8)
    pixels[: size // 2], pixels[size // 2 :] = (90, 160, 235), (60, 150, 40)
    return Image.fromarray(pixels)


@dataclass(frozen=True)
class Server:
    """A running page.

    Attributes:
        url: its address.
        pid: its process.
        log: what it has written so far.
        seconds: from its start to its first answer.
        model: the folder it serves.
        uploads: where it puts what is sent.
    """

    url: str
    pid: int
    log: Path
    seconds: float
    model: Path
    uploads: Path

    def resident_megabytes(self) -> float:
        """Its memory, from the system."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024


@contextmanager
def serving(model: Path, folder: Path, python: str = sys.executable, **environment: str) -> Iterator[Server]:
    """Start `space/app.py` as its users do, on a free port, and end it afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder.mkdir(parents=True, exist_ok=True)
    given = {"MODEL_ID": str(model), "GRADIO_SERVER_PORT": str(port), "TMPDIR": str(folder), "OMP_NUM_THREADS": "1"}
    started = time.perf_counter()
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(
            [python, "space/app.py"], cwd=ROOT, env=os.environ | given | environment, stdout=log, stderr=log
        )
    try:
        url = f"http://127.0.0.1:{port}"
        while not _answers(url):
            assert process.poll() is None and time.perf_counter() < started + 120, (folder / "log.txt").read_text()
            time.sleep(0.1)
        seconds = time.perf_counter() - started
        (uploads,) = folder.glob("brain-mri-uploads-*")
        yield Server(url, process.pid, folder / "log.txt", seconds, model, uploads)
    finally:
        process.terminate()
        process.wait(timeout=30)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False
