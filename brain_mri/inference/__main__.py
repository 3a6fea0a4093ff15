"""Classify brain-MRI slices without torch: onnxruntime, numpy and pillow. Research and teaching only, never diagnosis.

python -m brain_mri.inference slice.jpg                          a class and how sure the model is, or why there is none
python -m brain_mri.inference slice.jpg --overlay evidence.png   ... and where the evidence lies
python -m brain_mri.inference scan.nii.gz --json                 a volume: every slice, and all of them together
python -m brain_mri.inference examination/ --series 3            a folder of several series: the third that it lists
python -m brain_mri.inference *.dcm --model USER/NAME            a model folder, or an id on the Hub
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from brain_mri.errors import ConfigError, run_command
from brain_mri.inference.classifier import NOTICE, PRECISIONS, BrainMRIClassifier
from brain_mri.inference.predictions import Prediction, VolumePrediction
from brain_mri.io.slices import PLANE_CHOICES

_SHIPPED = "release"


def _describe(prediction: Prediction) -> str:
    if not prediction.is_answered:
        return f"{prediction.name}\n  {prediction.verdict}: {prediction.explanation}{_distance(prediction)}"
    likely = f"  prediction set: {', '.join(prediction.prediction_set)}"
    return "\n".join([prediction.name, *_ranked(prediction.probabilities), likely, *_caveat(prediction)])


def _caveat(found: Prediction | VolumePrediction) -> list[str]:
    return [f"  {found.caveat}"] if found.caveat else []


def _distance(prediction: Prediction) -> str:
    if prediction.reason != "not_brain_mri" or prediction.guard_score is None:
        return ""
    return f" (guard score {prediction.guard_score:.2f}, at most 1 is accepted)"


def _describe_volume(volume: VolumePrediction, name: str) -> str:
    lines = [f"{name}: {len(volume.slices)} slices, {volume.counted} of them accepted as brain MRI"]
    for p in volume.slices:
        said = p.verdict if p.score is None else f"{p.label:<12} {p.score:.3f}"
        lines.append(f"  {p.name:<20} {said}")
    if not volume.is_answered:
        lines += [f"  answered with a tumour, one by one: {volume.tumors} slices"] if volume.tumors else []
        return "\n".join([*lines, f"  {volume.verdict}: {volume.explanation}"])
    return "\n".join([*lines, "together:", *_ranked(volume.probabilities), *_caveat(volume)])


def _ranked(probabilities: dict[str, float]) -> list[str]:
    width = max([12, *(len(label) + 1 for label in probabilities)])
    return [f"  {label:<{width}}{p:.3f}" for label, p in sorted(probabilities.items(), key=lambda item: -item[1])]


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="brain-mri predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sources", nargs="+", metavar="FILE", help="pictures, DICOM, NIfTI, zips or folders of slices")
    parser.add_argument(
        "--model",
        default=os.environ.get("MODEL_ID", _SHIPPED),
        help="model folder or Hub id (default: MODEL_ID of the environment, else release)",
    )
    parser.add_argument(
        "--precision", choices=list(PRECISIONS), default="auto", help="default: int8 where the model has that file"
    )
    parser.add_argument(
        "--overlay",
        metavar="PNG",
        help="write the slice under its evidence here: a cross at the peak, and a contour round roughly where the "
        "model saw the class, not where a tumour ends; for one picture",
    )
    parser.add_argument(
        "--series",
        type=int,
        metavar="N",
        help="judge this series of a folder or file that holds several; the answer lists them (default: the nearest "
        "to contrast-enhanced T1)",
    )
    parser.add_argument(
        "--plane",
        choices=PLANE_CHOICES,
        default="auto",
        help="cut volumes in this plane (default: auto, the plane of acquisition where voxels are clearly longer along "
        "one axis, else all three)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per file, a line each")
    parser.add_argument(
        "--unchecked",
        action="store_true",
        help="answer also with a model that lacks a guard or thresholds: for experiments only",
    )
    parser.add_argument(
        "--wall",
        action="store_true",
        help="read files in processes whose memory and time are limited: for files of strangers",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Classify what the command line names."""
    options = _parse(argv)
    if options.overlay and len(options.sources) > 1:
        raise ConfigError("--overlay is for one picture: give one file, or leave it out.")
    if options.model == _SHIPPED and not Path(_SHIPPED).is_dir():
        raise ConfigError(
            f"no model was named, and there is no {_SHIPPED}/ here: give --model, a model folder or an id on the Hub."
        )
    classifier = BrainMRIClassifier.from_pretrained(
        options.model, precision=options.precision, unchecked=options.unchecked, wall=options.wall
    )
    if classifier.problem:
        print(f"warning: {classifier.problem}", file=sys.stderr)
    for source in options.sources:
        found = classifier.classify(source, series=options.series, plane=options.plane)
        if options.overlay and isinstance(found, VolumePrediction):
            raise ConfigError("--overlay is for one picture, not for a volume: leave it out.")
        if options.json:
            print(json.dumps(found.as_dict() | {"notice": NOTICE}))
        else:
            print(_describe_volume(found, source) if isinstance(found, VolumePrediction) else _describe(found))
            for note in found.notes:
                print(f"  note: {note}")
        if options.overlay and isinstance(found, Prediction):
            found.overlay().save(options.overlay)
    if not options.json:
        print(NOTICE)


if __name__ == "__main__":
    run_command(main)
