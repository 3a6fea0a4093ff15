"""Classify brain-MRI slices without torch: onnxruntime, numpy and pillow. Research and teaching only, never diagnosis.

python -m brain_mri.inference slice.jpg                          what the model says, and how sure it is
python -m brain_mri.inference slice.jpg --overlay evidence.png   ... and where it sees it
python -m brain_mri.inference scan.nii.gz --json                 a volume: every slice, and the whole of them
python -m brain_mri.inference *.dcm --model USER/NAME            a model folder, or an id on the Hub
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence

from brain_mri.errors import ConfigError, run_command
from brain_mri.inference.classifier import _PRECISIONS, NOTICE, BrainMRIClassifier
from brain_mri.inference.predictions import Prediction, VolumePrediction
from brain_mri.io.volumes import read_slices


def _describe(prediction: Prediction) -> str:
    lines = [prediction.name]
    if prediction.is_brain_mri is False:
        lines.append(
            f"  this does not look like a brain MRI (guard score {prediction.guard_score:.2f}, more than 1): no answer"
        )
    elif not prediction.is_confident:
        lines.append("  not sure enough to name a class: a human should look")
    ranked = sorted(prediction.probabilities.items(), key=lambda item: -item[1])
    lines += [f"  {label:<12}{probability:.3f}" for label, probability in ranked]
    lines.append(f"  prediction set: {', '.join(prediction.prediction_set)}")
    return "\n".join(lines)


def _describe_volume(volume: VolumePrediction, name: str) -> str:
    lines = [f"{name}: {len(volume.slices)} slices, {volume.counted} of them counted"]
    lines += [f"  {p.name:<20}{p.label:<12}{p.score:.3f}" for p in volume.slices]
    ranked = sorted(volume.probabilities.items(), key=lambda item: -item[1])
    return "\n".join([*lines, "together:", *(f"  {label:<12}{p:.3f}" for label, p in ranked)])


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m brain_mri.inference", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sources", nargs="+", metavar="FILE", help="pictures, DICOM, NIfTI, zips or folders of slices")
    parser.add_argument(
        "--model",
        default=os.environ.get("MODEL_ID", "release"),
        help="model folder or Hub id (default: MODEL_ID of the environment, else release)",
    )
    parser.add_argument(
        "--precision", choices=list(_PRECISIONS), default="auto", help="default: int8 where there is it"
    )
    parser.add_argument("--overlay", metavar="PNG", help="write the evidence over the slice here; for one picture")
    parser.add_argument("--json", action="store_true", help="one JSON object per file, a line each")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Classify what the command line names."""
    options = _parse(argv)
    if options.overlay and len(options.sources) > 1:
        raise ConfigError("--overlay is for one picture: give one file, or leave it out.")
    classifier = BrainMRIClassifier.from_pretrained(options.model, precision=options.precision)
    for source in options.sources:
        slices = read_slices(source)
        volume = classifier.predict_volume(slices)
        answer = volume if slices.is_volume else volume.slices[0]
        if options.json:
            print(json.dumps(answer.as_dict()))
        else:
            print(_describe_volume(volume, source) if slices.is_volume else _describe(volume.slices[0]))
        if options.overlay:
            if slices.is_volume:
                raise ConfigError("--overlay is for one picture, not for a volume: leave it out.")
            volume.slices[0].overlay().save(options.overlay)
    if not options.json:
        print(NOTICE)


if __name__ == "__main__":
    run_command(main)
