"""Choose when a model may answer with the healthy class, on sources it was not trained on.

    python -m brain_mri.evaluation.all_clear MODEL_FOLDER --data_dir FOLDER [FOLDER ...] [--part choose] [--rate 0.01]

At home a model is rarely wrong, so a threshold chosen there means little for other scanners. Each FOLDER is another
source with slices that show a tumour; in each, at most the share `--rate` of these may be answered with the healthy
class, as the slices are and in two wider black frames. Chosen are the least probability of that class, and for a model
with evidence maps a better rule beside it: how unlike the two sides of the head may be (`inference.symmetry`). Both go
into the model's `calibration.json`; `pipeline` can apply the first only. Evaluate again afterwards, on other patients.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from brain_mri.data.image_folder import scan_folder
from brain_mri.errors import ConfigError, DataError, run_command
from brain_mri.inference.classifier import BrainMRIClassifier
from brain_mri.inference.predictions import Prediction
from brain_mri.inference.rule import Rule
from brain_mri.labels import is_healthy, is_tumor
from brain_mri.metrics.calibration import all_clear_threshold
from brain_mri.model_folder import CALIBRATION, read_record
from brain_mri.utils.files import write_json

RATE = 0.01
_MARGIN = 0.9  # of the asymmetry that the rate needs: a tumour of the next patient may be more alike on both sides
_FRAMES = (0.2, 0.3)  # of width and height, added in black: other scanners have other fields of view


@dataclass(frozen=True)
class Source:
    """The predictions of another source's slices: of those that show a tumour, and of those that show none.

    Each is named by its file, and has its asymmetry if the classifier `compares_all`. `framed` are those with a tumour
    once more for each other field of view, in the same order.
    """

    name: str
    tumors: list[Prediction]
    healthy: list[Prediction]
    framed: list[list[Prediction]]

    @property
    def views(self) -> list[list[Prediction]]:
        """What a limit is chosen on: in each field of view it has to hold."""
        return [view for view in (self.tumors, *self.framed) if view]


@dataclass(frozen=True)
class Limits:
    """When the healthy class may be named: its least probability, and the largest asymmetry."""

    threshold: float
    asymmetry: float = math.inf

    def allow(self, prediction: Prediction) -> bool:
        """Whether the healthy class is named."""
        if prediction.verdict == "refused":
            return False
        label, probability = max(prediction.probabilities.items(), key=lambda item: item[1])
        symmetric = self.asymmetry == math.inf or _asymmetry(prediction) <= self.asymmetry
        return is_healthy(label) and probability >= self.threshold and symmetric

    def cleared(self, sources: Sequence[Source]) -> int:
        """How many slices without a tumour are answered so."""
        return sum(map(self.allow, (prediction for source in sources for prediction in source.healthy)))


def choose_all_clear(
    model_dir: Path, folders: Sequence[Path], part: str | None = None, rate: float = RATE, note: str | None = None
) -> Any:
    """Choose when the healthy class may be named, and write it into the model's `calibration.json` as `all_clear`.

    Args:
        model_dir: the model folder.
        folders: folders of images, each another source.
        part: only images whose row of `patients.csv` has this value in its column `part`; None takes all.
        rate: the largest share of a source's tumour slices that may be answered with the healthy class, in [0, 1).
        note: sentences for the model's card on how it was chosen.

    Returns:
        What was written: `threshold`, the least probability (above 1 if the healthy class may never be named, 0 if the
        other thresholds are enough); `symmetry`, a rule that takes its place where it answers more of the sources'
        healthy slices: the least probability as `threshold`, and the largest `asymmetry`; `rate`, `part`, `note`, and
        of each source `name`, `tumors` and `false_all_clears`, and where there are any, `healthy` slices and
        `all_clears`: before and after.

    Raises:
        ConfigError: the model lacks a guard, a calibration or a healthy class, or `rate` is out of range.
        DataError: a folder holds no slice with a tumour.
    """
    if not 0 <= rate < 1:
        raise ConfigError(f"--rate {rate}: give a share from 0 to below 1, such as 0.01.")
    record = read_record(model_dir / CALIBRATION)
    classifier = BrainMRIClassifier.from_pretrained(model_dir)
    if classifier.rule.missing:
        raise ConfigError(f"{model_dir} refuses every picture: {classifier.problem or 'it has no calibration'}")
    if not any(map(is_healthy, classifier.label_names)):
        listed = ", ".join(classifier.label_names)
        raise ConfigError(f"{model_dir} has no class known to mean that there is no tumour, only {listed}.")
    classifier.rule = Rule(float(record["referral"]["threshold"]))  # what was chosen before has no say
    classifier.compares_all = True
    sources = [read_source(classifier, folder, part) for folder in folders]
    before = Limits(_least(record))
    by_probability = limit_probability(before.threshold, sources, rate)
    by_asymmetry = limit_asymmetry(float(record["referral"]["threshold"]), sources, rate)
    # a class that validation forbids, because it was too often wrong there, stays forbidden; without a limit of the
    # asymmetry what validation asks stays, too
    allowed = before.threshold <= 1 and by_asymmetry.asymmetry < math.inf
    better = allowed and by_asymmetry.cleared(sources) > by_probability.cleared(sources)
    after = by_asymmetry if better else by_probability
    chosen = {
        "threshold": by_probability.threshold if by_probability != before else 0.0,
        **({"symmetry": asdict(by_asymmetry)} if better else {}),
        "rate": rate,
        "part": part,
        "note": note,
        "sources": [_counts(source, before, after) for source in sources],
    }
    write_json(record | {"all_clear": chosen}, model_dir / CALIBRATION)
    return chosen


def read_source(classifier: BrainMRIClassifier, folder: Path, part: str | None) -> Source:
    """The predictions of a folder's images, of a part if one is asked for.

    Raises:
        DataError: none of them shows a tumour.
    """
    layout = scan_folder(folder)
    images = layout.images
    if part is not None:
        part_of = {name: row["part"] for name, row in layout.side_table("patients.csv", ("part",))}
        images = [image for image in images if part_of.get(image.file_name) == part]
    tumors = [image.path for image in images if is_tumor(image.label, layout.label_names)]
    if not tumors:
        raise DataError(f"{layout.root} holds no slice with a tumour{f' of part {part!r}' if part else ''}.")
    healthy = [image.path for image in images if is_healthy(image.label)]
    found = classifier.predict([*tumors])
    views = [classifier.predict([framed(p.image, share) for p in found if p.image]) for share in _FRAMES]
    return Source(folder.name, found, classifier.predict([*healthy]), views)


def framed(image: Image.Image, share: float) -> Image.Image:
    """A picture in a black frame, which adds that share to its width and to its height."""
    return ImageOps.expand(image, (round(share * image.width / 2), round(share * image.height / 2)))


def limit_asymmetry(least: float, sources: Sequence[Source], rate: float) -> Limits:
    """The largest asymmetry with which the healthy class may be named, beside the probability that every class needs.

    A higher probability says much at home, but on other sources little between tumour and no tumour. Infinite if no
    limit is needed.
    """
    limit = math.inf
    for view in (view for source in sources for view in source.views):
        found = [-_asymmetry(p) for p in view if Limits(least).allow(p)]
        limit = min(limit, -all_clear_threshold(found, len(view), rate))
    return Limits(least, _MARGIN * limit)


def limit_probability(least: float, sources: Sequence[Source], rate: float) -> Limits:
    """The least probability with which the healthy class may be named, at least `least`."""
    for view in (view for source in sources for view in source.views):
        found = [max(p.probabilities.values()) for p in view if Limits(least).allow(p)]
        least = max(least, all_clear_threshold(found, len(view), rate))
    return Limits(least)


def _asymmetry(prediction: Prediction) -> float:
    """That of a slice; infinite where it is not known."""
    return math.inf if prediction.asymmetry is None else prediction.asymmetry


def _least(record: dict[str, Any]) -> float:
    """The probability that the healthy class needs without this command's choice."""
    referral = record["referral"]
    return float(max(referral["threshold"], referral.get("healthy_threshold", 0.0)))


def _counts(source: Source, before: Limits, after: Limits) -> dict[str, Any]:
    def cleared(predictions: Sequence[Prediction]) -> dict[str, int]:
        return {name: sum(map(limits.allow, predictions)) for name, limits in (("before", before), ("after", after))}

    healthy = {"healthy": len(source.healthy), "all_clears": cleared(source.healthy)} if source.healthy else {}
    return {
        "name": source.name,
        "tumors": len(source.tumors),
        "false_all_clears": cleared(source.tumors),
        **healthy,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Choose, and say what it does."""
    parser = argparse.ArgumentParser(
        prog="brain-mri all_clear", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="a model folder that train.py left")
    parser.add_argument("--data_dir", type=Path, nargs="+", required=True, metavar="FOLDER", help="images by class")
    parser.add_argument("--part", help="only rows of patients.csv with this value in their column `part`")
    parser.add_argument("--rate", type=float, default=RATE, help="share of tumours that may be missed so (%(default)s)")
    parser.add_argument("--note", help="sentences for the card: what else a reader should know of this choice")
    options = parser.parse_args(argv)
    chosen = choose_all_clear(options.model, options.data_dir, options.part, options.rate, options.note)
    for source in chosen["sources"]:
        print(f"{source['name']}: {_in_words(source, 'tumors', 'false_all_clears', 'with a tumour')}")
        if "healthy" in source:
            print(f"{source['name']}: {_in_words(source, 'healthy', 'all_clears', 'without one')}")
    print(f"{_limits_in_words(chosen)}, in {options.model / CALIBRATION}; evaluate the model again.")


def _in_words(source: dict[str, Any], slices: str, cleared: str, which: str) -> str:
    counts = source[cleared]
    return (
        f"{source[slices]:,} slices {which}, {counts['before']:,} answered with the healthy class before, "
        f"{counts['after']:,} now"
    )


def _limits_in_words(chosen: dict[str, Any]) -> str:
    threshold, symmetry = chosen["threshold"], chosen.get("symmetry")
    never = ", so it is never named" if threshold > 1 else ""
    by_probability = f"a probability of {threshold:.4f}{never}" if threshold else "what the other thresholds ask"
    if not symmetry:
        return f"the healthy class needs {by_probability}"
    return (
        f"the healthy class needs a probability of {symmetry['threshold']:.4f} and an asymmetry of at most "
        f"{symmetry['asymmetry']:.4f}; where that can't be known, as in pipeline, {by_probability}"
    )


if __name__ == "__main__":
    run_command(main)
