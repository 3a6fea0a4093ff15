"""What the asymmetry of a model's maps is worth on other sources, and which rule for "no tumour" holds on new patients.

    python -m benchmarks.symmetry release --data_dir tcga-lgg/t1c tcga-lgg/flair --part choose [--splits 300]

Each folder has classes, slices with and without a tumour of the same patients, and a `patients.csv`; without one each
slice counts as a patient. First, how well several scores tell these apart; then the rules that `brain-mri all_clear`
can choose: chosen on four fifths of the patients, counted on the others, means over the splits. Last, how many slices
of each class have sides as alike as the model's own limit asks: a tumour there is protected by the probability alone;
and how many with a tumour are called healthy in a wider black frame. Prints Markdown.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from brain_mri.data.image_folder import scan_folder
from brain_mri.errors import ConfigError, run_command
from brain_mri.evaluation.all_clear import Limits, Source, framed, limit_asymmetry, limit_probability, read_source
from brain_mri.inference.classifier import BrainMRIClassifier
from brain_mri.inference.postprocess import FloatArray
from brain_mri.inference.predictions import Prediction
from brain_mri.labels import is_healthy
from brain_mri.metrics.scores import auroc_score

_SIDE = 112  # pixels, of the picture whose own sides are compared
_FRAMES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)  # of the width and of the height
_SHARE = 0.8  # of the patients that a rule is chosen on


def _unlike(maps: FloatArray) -> float:
    return float(np.abs(maps - maps[..., ::-1]).mean())


def _known(asymmetry: float | None) -> float:
    return np.inf if asymmetry is None else asymmetry  # as the rule takes it


def _pixels(prediction: Prediction) -> float:
    image = prediction.image
    assert image is not None
    return _unlike(np.asarray(image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX), dtype=np.float64))


def _one_pass(prediction: Prediction) -> float:
    return _unlike(np.stack([*(prediction.evidence or {}).values()]).astype(np.float64))


SCORES: dict[str, Callable[[Prediction], float]] = {
    "probability of a tumour": lambda p: 1 - sum(x for label, x in p.probabilities.items() if is_healthy(label)),
    "both sides of the picture": _pixels,
    "both sides of its maps": _one_pass,
    "the same and the mirrored picture's, of the head too": lambda p: _known(p.asymmetry),
}
RULES: dict[str, tuple[Callable[[float, Sequence[Source], float], Limits], float]] = {
    "probability": (limit_probability, 0.01),
    "probability, none missed": (limit_probability, 0.0),
    "asymmetry": (limit_asymmetry, 0.01),
    "asymmetry, none missed": (limit_asymmetry, 0.0),
}


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data_dir", type=Path, nargs="+", required=True, metavar="FOLDER")
    parser.add_argument("--part")
    parser.add_argument("--splits", type=int, default=300)
    options = parser.parse_args()
    classifier = BrainMRIClassifier.from_pretrained(options.model)
    if not classifier.has_evidence:
        raise ConfigError(f"{options.model} has no evidence maps, so it has no asymmetry.")
    classifier.compares_all = True
    sources = [read_source(classifier, folder, options.part) for folder in options.data_dir]
    labels: dict[str, str] = {}
    patients: dict[str, str] = {}
    for layout in map(scan_folder, options.data_dir):
        labels |= {image.path.name: image.label for image in layout.images}
        patients |= {image.path.name: image.path.name for image in layout.images}
        table = layout.side_table("patients.csv", ("patient_group",))
        patients |= {Path(name).name: row["patient_group"] for name, row in table}
    _print_scores(sources, patients)
    assert classifier.thresholds is not None
    _print_rules(sources, patients, classifier.thresholds.referral, options.splits)
    _print_alike(sources, labels, classifier.thresholds.asymmetry)
    _print_framed(classifier, sources)


def _print_scores(sources: Sequence[Source], patients: dict[str, str]) -> None:
    print(f"| AUROC, tumour against none | {' | '.join(source.name for source in sources)} |")
    print(f"|---|{'---|' * len(sources)}")
    for name, score in SCORES.items():
        cells = []
        for source in sources:
            slices = [*source.tumors, *source.healthy]
            groups = [patients[p.name] for p in slices]
            positive = np.arange(len(slices)) < len(source.tumors)
            found = auroc_score([score(p) for p in slices], positive, groups)
            cells.append(f"{found['value']:.2f} ({found['low']:.2f} to {found['high']:.2f})" if found else "-")
        print(f"| {name} | {' | '.join(cells)} |")


def _print_rules(sources: Sequence[Source], patients: dict[str, str], least: float, splits: int) -> None:
    everyone, rng = sorted(set(patients[p.name] for source in sources for p in source.tumors)), np.random.default_rng(0)
    chosen_on = [set(rng.permutation(everyone)[: round(_SHARE * len(everyone))]) for _ in range(splits)]
    print(f"\n| rule | {' | '.join(f'{s.name}: false all-clears | all-clears' for s in sources)} |")
    print(f"|---|{'---:|---:|' * len(sources)}")
    for name, (choose, rate) in RULES.items():
        shares = []
        for known in chosen_on:
            limits = choose(least, [_of(source, patients, known, True) for source in sources], rate)
            others = [_of(source, patients, known, False) for source in sources]
            shares.append([[_share(limits, of) for of in (o.tumors, o.healthy)] for o in others])
        print(f"| {name} | {' | '.join(f'{x:.1%}' for x in np.mean(shares, axis=0).ravel())} |")


def _print_alike(sources: Sequence[Source], labels: dict[str, str], limit: float) -> None:
    print(f"\n| sides alike (asymmetry at most {limit:.2f}) | {' | '.join(source.name for source in sources)} |")
    print(f"|---|{'---:|' * len(sources)}")
    for label in sorted(set(labels.values())):
        cells = []
        for source in sources:
            found = [_known(p.asymmetry) <= limit for p in (*source.tumors, *source.healthy) if labels[p.name] == label]
            cells.append(f"{sum(found)} of {len(found)}")
        print(f"| {label} | {' | '.join(cells)} |")


def _print_framed(classifier: BrainMRIClassifier, sources: Sequence[Source]) -> None:
    """False all-clears of the model's own rule in other fields of view."""
    heads = (f"{source.name}: of {len(source.tumors)} tumours called healthy" for source in sources)
    print(f"\n| a black frame of | {' | '.join(heads)} |")
    print(f"|---|{'---:|' * len(sources)}")
    for share in _FRAMES:
        cells = []
        for source in sources:
            seen = classifier.predict([framed(p.image, share) for p in source.tumors if p.image])
            cells.append(str(sum(p.label is not None and is_healthy(p.label) for p in seen)))
        print(f"| {share:.0%} | {' | '.join(cells)} |")


def _share(limits: Limits, slices: Sequence[Prediction]) -> float:
    return sum(map(limits.allow, slices)) / len(slices) if slices else 0.0


def _of(source: Source, patients: dict[str, str], known: set[str], wanted: bool) -> Source:
    """The slices of the patients that are, or are not, among the known ones."""

    def some(slices: list[Prediction]) -> list[Prediction]:
        return [p for p in slices if (patients[p.name] in known) == wanted]

    return replace(source, tumors=some(source.tumors), healthy=some(source.healthy))


if __name__ == "__main__":
    run_command(main)
