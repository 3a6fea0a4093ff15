"""What makes a model's figures doubtful, from the records of its folder: said in the console and atop its card."""

from __future__ import annotations

from brain_mri.labels import no_healthy_class
from brain_mri.metrics.calibration import REFER_EVERYTHING, TEMPERATURE_BOUNDS
from brain_mri.model_folder import ModelRecords

_FEW_STEPS = 100  # of the first stage; below, fine-tuning has hardly begun
_FEW_IMAGES = 50  # of a class, to train on
_FEW_FOR_A_QUANTILE = 100  # of validation: the guard accepts 99% of them
_MOST_LEAKED = 0.8  # of the test images
_MOST_CONTRARY = 0.01  # of all images


def cautions(records: ModelRecords) -> list[str]:
    """Sentences about the model, the gravest first; none where nothing is wrong."""
    unknown = no_healthy_class(records.run.get("label_names", ()))
    found = [unknown] if unknown else []
    return [
        *found,
        *_shortcut(records),
        *_leakage(records),
        *_training(records),
        *_temperature(records),
        *_thresholds(records),
    ]


def _shortcut(records: ModelRecords) -> list[str]:
    results = records.results
    if not results or not results.get("shortcut") or "accuracy" not in results["scores"]:
        return []
    blind, seeing = results["shortcut"]["accuracy"], results["scores"]["accuracy"]["value"]
    if seeing > blind:
        return []
    return [
        f"The model is right for {seeing:.1%} of the test images, and a control that sees no brain, only sizes, "
        f"borders and file formats, for {blind:.1%}: nothing shows that it looks at the brain."
    ]


def _leakage(records: ModelRecords) -> list[str]:
    audit, found = records.audit, []
    if not audit:
        return []
    total, leaked = audit["splits"].get("test", {}).get("images", 0), len(audit["test_with_twin"])
    if total and leaked > _MOST_LEAKED * total:
        found.append(
            f"{leaked:,} of {total:,} test images have a near-copy among those it was trained on: its test figures say "
            "next to nothing of new images."
        )
    contrary = len(audit["different_labels"])
    if contrary > _MOST_CONTRARY * audit["images"]:
        found.append(
            f"{contrary:,} groups of near-copies bear different labels, so some of these are wrong: brain-mri audit "
            "lists them."
        )
    return found


def _training(records: ModelRecords) -> list[str]:
    run, found = records.run, []
    steps = run.get("global_step")
    if steps is not None and steps < _FEW_STEPS and not run.get("stages"):
        found.append(f"It was trained for {steps} steps only: give more images, or --min_steps 160 or more.")
    train = run.get("splits", {}).get("train", {})
    few = {name: n for name, n in train.items() if 0 < n < _FEW_IMAGES}
    if few:
        listed = ", ".join(f"{name} {n}" for name, n in few.items())
        found.append(f"Few images were trained on ({listed}): its figures are of this folder, and hold for no other.")
    return found


def _temperature(records: ModelRecords) -> list[str]:
    if not (record := records.calibration):
        return []
    low, high = TEMPERATURE_BOUNDS
    if low * 1.01 < record["temperature"] < high / 1.01:
        return []
    return [
        f"The temperature ended at the bound of its range ({record['temperature']:.4g}), so that the confidences are "
        f"not calibrated: the {record['n']} validation images say nothing about them."
    ]


def _thresholds(records: ModelRecords) -> list[str]:
    found = []
    if records.export and not records.guard:
        found.append("It has no guard, since the folder was too small for one, and so it refuses every picture.")
    if not (record := records.calibration) or record.get("earlier_stage"):
        return found
    n = record["n"]
    if n < _FEW_FOR_A_QUANTILE:
        guard = " and the guard's" if records.guard else ""
        found.append(
            f"Its thresholds{guard} were set on {n} validation images, too few for the shares that they promise: it "
            "may answer or refuse too much or too little."
        )
    if record["prediction_sets"]["threshold"] <= 0:
        coverage = record["prediction_sets"]["coverage"]
        found.append(f"{n} validation images are too few for prediction sets of {coverage:.0%}: they hold every class.")
    if record["referral"]["threshold"] >= REFER_EVERYTHING:
        accuracy = record["referral"]["accuracy"]
        found.append(f"At no confidence {accuracy:.0%} of the validation images were right: every answer is unsure.")
    return found
