"""Draw docs/leakage.png: how alike each test image is to the training image nearest to it. Shows no slice.

python docs/draw_leakage.py FOLDER        a folder with a training and a test split
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from brain_mri.data.duplicates import ORIENTATIONS, THRESHOLD, orient, thumbnail
from brain_mri.data.image_folder import scan_folder

_EDGES = np.array([0.0, 0.80, 0.85, 0.90, 0.93, 0.96, THRESHOLD, 0.99, 0.995, 0.999, 1.0])


def nearest(test: NDArray[np.uint8], train: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The highest correlation of each test thumbnail with any training thumbnail in any orientation; float32 (n,)."""
    known = _units(train).T
    best = np.full(len(test), -1, np.float32)
    for k in range(len(ORIENTATIONS)):
        best = np.maximum(best, (_units(orient(test, k)) @ known).max(axis=1))
    return best


def _units(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    flat = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


def draw(similarity: NDArray[np.float32], path: Path) -> None:
    """Bars of how many test images fall between two similarities; twins are filled and labelled."""
    similarity = np.minimum(similarity, 1.0)
    # twins are decided with the audit's own allowance for rounding
    counts, _ = np.histogram(
        np.where(similarity >= THRESHOLD - 1e-5, np.maximum(similarity, THRESHOLD), similarity), _EDGES
    )
    names = [f"below {_EDGES[1]:g}", *(f"{a:g} to {b:g}" for a, b in pairwise(_EDGES[1:]))]
    twins = _EDGES[:-1] >= THRESHOLD
    figure, axes = plt.subplots(figsize=(7.6, 3.9), layout="constrained")
    bars = axes.barh(names, counts, color=np.where(twins, "#0b5394", "#e6e6e6"), edgecolor="#333333", linewidth=0.8)
    for bar, twin in zip(bars, twins, strict=True):
        bar.set_hatch("" if twin else "//")
    axes.bar_label(bars, padding=3, fontsize=9)
    axes.invert_yaxis()
    axes.set_xlabel("test images")
    axes.set_ylabel("correlation with the nearest\ntraining image (48 x 48 head)")
    share = counts[twins].sum() / len(similarity)
    axes.set_title(
        f"{counts[twins].sum():,} of {len(similarity):,} test images ({share:.1%}) have a twin in training", fontsize=11
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.1)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main() -> None:
    """Read the folder's thumbnails and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="folder with a training and a test split")
    images = scan_folder(parser.parse_args().folder).images
    thumbnails = {split: [] for split in ("train", "test")}
    for image in images:
        if image.split in thumbnails:
            with Image.open(image.path) as opened:
                thumbnails[image.split].append(thumbnail(opened))
    similarity = nearest(np.stack(thumbnails["test"]), np.stack(thumbnails["train"]))
    draw(similarity, Path(__file__).with_name("leakage.png"))
    print(f"{(similarity >= THRESHOLD - 1e-5).sum()} of {len(similarity)} test images have a twin in training")


if __name__ == "__main__":
    main()
