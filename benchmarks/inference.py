"""A picture file to an answer: `pipeline` (eager) against the ONNX files with evidence map, prediction set and guard.

    python -m benchmarks.inference MODEL_FOLDER --data_dir FOLDER [--images 200] [--threads 2] [--json out.json]

All ways answer every file in turn, in one process, so that what else the machine does falls on all alike; the order
changes from file to file. Then each is given all files in one list, three times in turn. FOLDER is one that train.py
takes; its test images are used, evenly spread. Cold start is a new process from its start to its first answer; memory
is that process's peak.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import pipeline

from brain_mri.data.image_folder import scan_folder
from brain_mri.data.layout import ImageFile
from brain_mri.errors import ConfigError, run_command
from brain_mri.inference.classifier import BrainMRIClassifier
from brain_mri.model_folder import FLOAT32_FILE, INT8_FILE, ONNX, served_file
from brain_mri.utils.hardware import describe

_WARM_UP = 5
_COLD_STARTS = 3
_LISTS = 3
_PIPELINE_BATCH = 8
_COLD = {
    "pipeline": "from transformers import pipeline\n"
    "pipeline('image-classification', model={model!r}, device='cpu')({image!r})",
    "onnx": "from brain_mri.inference import BrainMRIClassifier\n"
    "BrainMRIClassifier.from_pretrained({model!r}).predict({image!r})",
}


def _images(data_dir: str, count: int) -> list[ImageFile]:
    layout = scan_folder(data_dir)
    layout.check()
    test = [image for image in layout.images if image.split == "test"] or layout.images
    return [test[i] for i in np.unique(np.linspace(0, len(test) - 1, min(count, len(test))).round().astype(int))]


@dataclass(frozen=True)
class _Way:
    """`answer` of a file is `{label: probability}`; `all_of` asks for a list of files at once."""

    answer: Callable[[str], dict[str, float]]
    all_of: Callable[[list[str]], object]


def ways_to_answer(model: str, threads: int) -> dict[str, _Way]:
    """The functions to time, by name: `pipeline`, and each ONNX file that the model folder has."""
    torch.set_num_threads(threads)
    classify = pipeline("image-classification", model=model, device="cpu")
    labels = len(classify.model.config.id2label)

    def eager(path: str) -> dict[str, float]:
        return {answer["label"]: answer["score"] for answer in classify(path, top_k=labels)}

    def onnx(precision: str) -> _Way:
        classifier = BrainMRIClassifier.from_pretrained(model, precision=precision, threads=threads)
        return _Way(lambda path: classifier.predict(path).probabilities, classifier.predict)

    served = {"ONNX float32": ("fp32", FLOAT32_FILE), "ONNX int8": ("int8", INT8_FILE)}
    there = {name: onnx(precision) for name, (precision, file) in served.items() if (Path(model) / file).is_file()}
    return {"pipeline, eager": _Way(eager, lambda paths: classify(paths, batch_size=_PIPELINE_BATCH)), **there}


def measure(ways: dict[str, _Way], images: Sequence[ImageFile]) -> dict[str, Any]:
    """Milliseconds of every answer, and how far the answers agree with pipeline's."""
    names = list(ways)
    milliseconds: dict[str, list[float]] = {name: [] for name in names}
    answers: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for number, image in enumerate([*images[:_WARM_UP], *images]):
        for turn in range(len(names)):
            name = names[(number + turn) % len(names)]
            started = time.perf_counter()
            answer = ways[name].answer(str(image.path))
            elapsed = (time.perf_counter() - started) * 1000
            if number >= min(_WARM_UP, len(images)):
                milliseconds[name].append(elapsed)
                answers[name].append(answer)
    return {name: _summary(milliseconds[name], answers[name], answers[names[0]], images) for name in names}


def _summary(
    milliseconds: list[float],
    answers: list[dict[str, float]],
    reference: list[dict[str, float]],
    images: Sequence[ImageFile],
) -> dict[str, float]:
    said = [max(answer, key=answer.__getitem__) for answer in answers]
    wanted = [max(answer, key=answer.__getitem__) for answer in reference]
    # differences of log-probabilities are differences of logits, but for what they have in common
    apart = [
        max(abs(np.log(a[k] + 1e-12) - np.log(b[k] + 1e-12)) for k in b)
        for a, b in zip(answers, reference, strict=True)
    ]
    p50, p95 = np.percentile(milliseconds, [50, 95])
    return {
        "p50_ms": float(p50),
        "p95_ms": float(p95),
        "same_label": float(np.mean([a == b for a, b in zip(said, wanted, strict=True)])),
        "accuracy": float(np.mean([label == image.label for label, image in zip(said, images, strict=True)])),
        "largest_log_probability_difference": float(max(apart)),
    }


def throughput(ways: dict[str, _Way], images: Sequence[ImageFile]) -> dict[str, list[float]]:
    """Images a second when all are given in one list, once per turn."""
    paths = [str(image.path) for image in images]
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(_LISTS):
        for name, way in ways.items():
            started = time.perf_counter()
            way.all_of(paths)
            found[name].append(len(paths) / (time.perf_counter() - started))
    return found


def cold_start(model: str, image: str) -> dict[str, dict[str, float]]:
    """Seconds from a process's start to its first answer, and its peak memory in MB: the median of a few."""
    result = {}
    for name, program in _COLD.items():
        seconds, megabytes = [], []
        for _ in range(_COLD_STARTS):
            # not getrusage, which on Linux starts from the peak of the process that this one was forked from
            tail = "\nprint(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
            command = [sys.executable, "-c", program.format(model=model, image=image) + tail]
            started = time.perf_counter()
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=dict(os.environ))
            seconds.append(time.perf_counter() - started)
            megabytes.append(int(done.stdout.split()[-1]) / 1024)
        result[name] = {"seconds": float(np.median(seconds)), "megabytes": float(np.median(megabytes))}
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="model folder with its ONNX files")
    parser.add_argument("--data_dir", required=True, help="folder of images; its test split is used")
    parser.add_argument("--images", type=int, default=200, help="how many (default: 200)")
    parser.add_argument("--threads", type=int, default=2, help="of torch and onnxruntime alike (default: 2)")
    parser.add_argument("--json", help="write the figures here")
    options = parser.parse_args(argv)
    if served_file(Path(options.model)) is None:
        raise ConfigError(f"{options.model} has no ONNX file: give a folder that train.py left, or a release of it.")
    images = _images(options.data_dir, options.images)
    ways = ways_to_answer(options.model, options.threads)
    found, lists = measure(ways, images), throughput(ways, images)
    cold = cold_start(options.model, str(images[0].path))
    print(f"{len(images)} files, {options.threads} threads, {describe()['cpu']}\n")
    print(
        f"{'':<18}{'p50 ms':>8}{'p95 ms':>8}{'faster':>8}{'same label':>12}{'accuracy':>10}{'largest difference':>20}"
    )
    slowest = found["pipeline, eager"]["p50_ms"]
    for name, f in found.items():
        print(
            f"{name:<18}{f['p50_ms']:>8.1f}{f['p95_ms']:>8.1f}{slowest / f['p50_ms']:>7.1f}x{f['same_label']:>12.4f}"
            f"{f['accuracy']:>10.4f}{f['largest_log_probability_difference']:>20.2g}"
        )
    print()
    for name, speeds in lists.items():
        spread = f"({min(speeds):.1f} to {max(speeds):.1f})"
        print(f"all in one list, {name:<18}{np.median(speeds):>6.1f} images/s {spread}")
    print()
    for name, c in cold.items():
        print(f"cold start, {name:<10}{c['seconds']:>6.2f} s{c['megabytes']:>8.0f} MB")
    sizes = {p.name: p.stat().st_size / 1e6 for p in (Path(options.model) / ONNX).glob("*.onnx")}
    print("\n" + "\n".join(f"{name:<24}{size:>6.1f} MB" for name, size in sorted(sizes.items())))
    if options.json:
        record = {"n": len(images), "threads": options.threads, "hardware": describe(), "answers": found}
        record |= {"images_per_second": lists, "cold": cold}
        Path(options.json).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_command(main)
