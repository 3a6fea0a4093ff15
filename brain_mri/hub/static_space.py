"""The files of a static Space: a page that runs the model in the visitor's browser. No torch."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import SpaceCard

from brain_mri.errors import ConfigError
from brain_mri.inference.classifier import BrainMRIClassifier
from brain_mri.inference.onnx_model import OnnxModel
from brain_mri.inference.overlay import LEVEL
from brain_mri.inference.predictions import REASONS
from brain_mri.inference.thresholds import contour_levels
from brain_mri.io.dicom_header import refusal_words
from brain_mri.io.frames import kind_words
from brain_mri.io.nifti import NO_SCAN
from brain_mri.io.sequences import sequence_words
from brain_mri.labels import NO_TUMOR, is_healthy, no_healthy_class
from brain_mri.model_folder import CALIBRATION, CARD, EVIDENCE, GUARD, GUARD_TENSORS, read_records, served_file
from brain_mri.reporting.protocols import (
    Protocol,
    chosen_all_clear,
    cleared_elsewhere,
    figure_of,
    in_order,
    least_right_elsewhere,
    protocols,
    safety_counts,
    share_found,
)
from brain_mri.utils.files import write_json

_ROOT = Path(__file__).resolve().parents[2]
_SOURCE, _GRADIO = _ROOT / "space_static", _ROOT / "space"
_NOT_SHOWN = ("node_modules", "package*.json", ".*", "*.py", "__pycache__")
_MODEL = (CALIBRATION, GUARD, GUARD_TENSORS)
_RESIZED = "bicubic"  # what space_static/resize.js does as Pillow does it
_VENDOR = {  # of node_modules: where it goes
    "onnxruntime-web/dist/ort.wasm.min.mjs": "ort.wasm.min.mjs",
    "onnxruntime-web/dist/ort-wasm-simd-threaded.mjs": "ort-wasm-simd-threaded.mjs",
    "onnxruntime-web/dist/ort-wasm-simd-threaded.wasm": "ort-wasm-simd-threaded.wasm",
    "dicom-parser/dist/dicomParser.min.js": "dicomParser.min.js",
    "dicom-parser/LICENSE": "dicomParser.LICENSE",
    "nifti-reader-js/dist/nifti.js": "nifti/nifti.js",
    "nifti-reader-js/dist/nifti1.js": "nifti/nifti1.js",
    "nifti-reader-js/dist/nifti2.js": "nifti/nifti2.js",
    "nifti-reader-js/dist/nifti-extension.js": "nifti/nifti-extension.js",
    "nifti-reader-js/dist/utilities.js": "nifti/utilities.js",
    "nifti-reader-js/LICENSE": "nifti/LICENSE",
    "fflate/esm/browser.js": "nifti/fflate.js",
    "fflate/LICENSE": "nifti/fflate.LICENSE",
}
_PACKED = "ort-wasm-simd-threaded.wasm"


def stage_static_space(target: Path, folder: Path, model: str | None = None) -> None:
    """Write the files of a static Space into a new folder.

    Args:
        target: the folder to write.
        folder: the model folder that the page runs, with a guard and a calibration.
        model: id of the model on the Hub, for links to its card; None for none.

    Raises:
        ConfigError: `space_static/` is missing, the model folder lacks a file that a page must not be without, or npm
            cannot install what the page uses.
    """
    if not (_SOURCE / "index.html").is_file():
        raise ConfigError(f"{_SOURCE} holds no index.html: publish a static Space from a clone of the repository.")
    if missing := BrainMRIClassifier.from_pretrained(folder).rule.missing:
        raise ConfigError(f"{folder} can't be shown, {REASONS[missing]}: train or export it again.")
    _check_healthy_class(read_records(folder).run["label_names"], folder)
    modules = _modules()
    shutil.copytree(_SOURCE, target, ignore=shutil.ignore_patterns(*_NOT_SHOWN))
    for name, place in _VENDOR.items():
        _copy(modules / name, target / "vendor" / place)
    _settle_vendor(target / "vendor")
    _stage_model(folder, target / "model")
    shutil.copytree(_GRADIO / "texts", target / "texts")
    shutil.copytree(_GRADIO / "viewer", target / "viewer", ignore=shutil.ignore_patterns("mount.js"))  # Gradio's part
    shutil.copytree(_GRADIO / "examples", target / "examples", ignore=shutil.ignore_patterns("*.zip"))
    write_json(_words(), target / "words.json")
    write_json(_figures(folder, model) | {"examples": _examples(target)}, target / "figures.json")
    if model:
        card = SpaceCard((target / CARD).read_text(encoding="utf-8"))
        card.data["models"] = [model]
        (target / CARD).write_text(str(card), encoding="utf-8")
    write_json(_listing(target), target / "files.json")


def _check_healthy_class(label_names: Sequence[str], folder: Path) -> None:
    """The page asks more of "no tumour" than of a tumour, and knows it by one name."""
    healthy = [name for name in label_names if is_healthy(name)]
    if said := no_healthy_class(label_names):
        raise ConfigError(f"{folder} can't be shown in the browser. {said}")
    if healthy not in ([], [NO_TUMOR]):
        raise ConfigError(
            f"{folder} calls its healthy class {healthy[0]}, and the page in the browser knows {NO_TUMOR} only: name "
            "it so and train again, or publish the other page (--space)."
        )


def _stage_model(folder: Path, target: Path) -> None:
    file = served_file(folder)
    assert file is not None, "it was loaded before"
    preprocessing = OnnxModel(file).preprocessing()
    if preprocessing["resample"] != _RESIZED:
        raise ConfigError(f"{folder} resizes pictures with {preprocessing['resample']}, the page with {_RESIZED} only.")
    for name in _MODEL:
        _copy(folder / name, target / name)
    _copy(file, target / file.name)
    chosen = contour_levels(folder / EVIDENCE)
    levels = {label: chosen.get(label, LEVEL) for label in preprocessing["label_names"]}
    write_json(preprocessing | {"file": file.name, "levels": levels}, target / "model.json")


def _words() -> dict[str, Any]:
    """What headers may say, by the modules that read them."""
    others = {"kinds": kind_words(), "intents": sorted(NO_SCAN), "sequences": sequence_words()}
    return refusal_words() | others


def _copy(source: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, place)


def _modules() -> Path:
    """The installed npm packages; npm installs them where they are missing."""
    modules = _SOURCE / "node_modules"
    if all((modules / name).is_file() for name in _VENDOR):
        return modules
    npm = shutil.which("npm")
    if npm is None:
        raise ConfigError("a static Space needs onnxruntime-web from npm, and npm is not installed: install Node.js.")
    done = subprocess.run(
        [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=_SOURCE, capture_output=True, check=False
    )
    if done.returncode:
        raise ConfigError(f"npm could not install what the page uses: run `npm ci` in {_SOURCE} and see why.")
    return modules


def _settle_vendor(vendor: Path) -> None:
    """Make the packages load without a bundler, and pack the large file, since not every host packs it."""
    reader = vendor / "nifti" / "nifti.js"
    bare = reader.read_text(encoding="utf-8")
    reader.write_text(bare.replace("from 'fflate'", "from './fflate.js'"), encoding="utf-8")
    parser = vendor / "dicomParser.min.js"
    script = parser.read_text(encoding="utf-8")  # written for pages without modules, where `this` is the window
    parser.write_text(f"(function () {{\n{script}\n}}).call(globalThis);\n", encoding="utf-8")
    wasm = vendor / _PACKED
    (vendor / f"{_PACKED}.gz").write_bytes(gzip.compress(wasm.read_bytes(), 9, mtime=0))
    wasm.unlink()


def _figures(folder: Path, model: str | None) -> dict[str, Any]:
    """What the page says of the model: false all-clears, accuracy, and the share found of new patients."""
    records = read_records(folder)
    measured = in_order(protocols(records))
    return {
        "safety": [_named(protocol) | safety_counts(protocol) for protocol in measured if protocol.safety],
        "all_clear": chosen_all_clear(records),
        "accuracy": [_named(p) | figure for p in measured if (figure := figure_of("accuracy", p, records))],
        "found": share_found(records),
        "least_right_elsewhere": least_right_elsewhere(records),
        "cleared_elsewhere": cleared_elsewhere(records),
        "card": f"https://huggingface.co/{model}" if model else None,
    }


def _named(protocol: Protocol) -> dict[str, Any]:
    return {"protocol": protocol.key, "name": protocol.data["name"] if protocol.is_external else None}


def _examples(target: Path) -> list[dict[str, str]]:
    """The pictures that come with the page, and what they show where that is known."""
    folder = target / "examples"
    truth = folder / "cases.json"
    cases = json.loads(truth.read_text(encoding="utf-8")) if truth.is_file() else []
    known = {one["file_name"]: one["label"] for one in cases}
    return [
        {"file": path.relative_to(target).as_posix(), "label": known.get(path.name, "")}
        for path in sorted(folder.glob("*.png"))
    ]


def _listing(target: Path) -> dict[str, Any]:
    """The files that work offline, and a version that changes when one of them does."""
    paths = sorted(p for p in target.rglob("*") if p.is_file() and p.name not in (CARD, "sw.js", "LICENSE"))
    names = [p.relative_to(target).as_posix() for p in paths if not p.name.endswith(".LICENSE")]
    digest = hashlib.sha256()
    for name in names:
        digest.update(name.encode() + (target / name).read_bytes())
    return {"version": digest.hexdigest()[:16], "files": ["./", *names, "files.json"]}
