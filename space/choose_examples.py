"""Choose the examples of the page by what a model answers: run again when another model is released.

    python space/choose_examples.py <folder of figshare 1512427 as PNG or JPEG, with boxes.csv and patients.csv> release

One slice of each tumour that is named rightly, one that the model is unsure of, one that it names wrongly with the most
confidence, each of another patient; and a phantom, which is refused. Real slices are by Jun Cheng, figshare 1512427,
CC BY 4.0.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from brain_mri.errors import DataError, run_command
from brain_mri.inference import BrainMRIClassifier
from brain_mri.inference.predictions import Prediction
from brain_mri.io.images import read_image
from brain_mri.phantom.drawing import draw_phantom

_FOLDER = Path(__file__).with_name("examples")
_TUMORS = ("glioma", "meningioma", "pituitary")
_COORDINATES = ("center_x", "center_y", "width", "height")
_README = """# Examples

`example_1.png` to `example_5.png` are slices of contrast-enhanced T1 by Jun Cheng, "brain tumor dataset", figshare
1512427 (https://doi.org/10.6084/m9.figshare.1512427), licence CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/),
made smaller: {chosen}. The model has seen most slices of this set, so that it names one rightly says little.
`example_6.png` is a phantom, drawn by a program. Chosen by `space/choose_examples.py` for the model in `release/`.
"""


def _rows(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return {row["file_name"]: row for row in csv.DictReader(file)}


def _chosen(folder: Path, model: BrainMRIClassifier) -> list[dict[str, Any]]:
    """The five real slices, as rows of cases.json with their path; each of another patient."""
    boxes, patients = _rows(folder / "boxes.csv"), _rows(folder / "patients.csv")
    names = sorted(boxes)
    random.Random(0).shuffle(names)
    answers = {name: model.predict(folder / name) for name in names}
    wanted: list[Callable[[str, Prediction], bool]] = [
        *(lambda truth, one, tumor=tumor: truth == tumor == one.label for tumor in _TUMORS),
        lambda truth, one: one.verdict == "unsure",
        lambda truth, one: one.label not in (None, truth),
    ]
    found: list[dict[str, Any]] = []
    for number, fits in enumerate(wanted):
        taken = {patients[one["source"]]["patient_group"] for one in found}
        fitting = [name for name, one in answers.items() if fits(name.split("/")[0], one)]
        fitting = [name for name in fitting if patients[name]["patient_group"] not in taken]
        if not fitting:
            raise DataError(f"{folder} has no slice of kind {number + 1} of {len(wanted)}: give all of its slices.")
        best = max(fitting, key=lambda name: answers[name].score or 0.0) if number == len(wanted) - 1 else fitting[0]
        box = [float(boxes[best][key]) for key in _COORDINATES]
        found.append({"source": best, "label": best.split("/")[0], "box": box})
    return found


def main() -> None:
    """Write `examples/`: the pictures, their truth, and whose they are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("model", type=Path)
    options = parser.parse_args()
    chosen = _chosen(options.folder, BrainMRIClassifier.from_pretrained(options.model))
    cases = []
    for number, one in enumerate(chosen, 1):
        name = f"example_{number}.png"
        read_image(options.folder / one["source"]).convert("L").save(_FOLDER / name, optimize=True)
        cases.append({"file_name": name, "label": one["label"], "box": one["box"]})
    draw_phantom("glioma", 1).image.save(_FOLDER / f"example_{len(chosen) + 1}.png", optimize=True)
    (_FOLDER / "cases.json").write_text(json.dumps(cases, indent=1) + "\n", encoding="utf-8")
    text = _README.format(chosen=", ".join(one["source"] for one in chosen))
    (_FOLDER / "README.md").write_text(text, encoding="utf-8")
    print(f"{len(chosen) + 1} examples in {_FOLDER}")


if __name__ == "__main__":
    run_command(main)
