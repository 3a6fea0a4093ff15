"""How well the leakage audit finds planted copies, and how its search grows.

    python -m benchmarks.leakage [--data_dir DATA_DIR] [--images 400] [--sizes 7000 70000]

Recall: copies whose original is found. Precision: share of the found pairs of a copy and an original that belong
together; the originals are of different patients where known, and no twins of each other. Without --data_dir the
originals are synthetic phantoms. The search is timed on synthetic thumbnails, in a process of its own for each size.
Times are CPU seconds; the whole audit is the search plus reading n JPEG files like the originals, whose cost is
measured on these. An exponent of 1 is linear growth. Memory is the peak of thumbnails and search.
"""

from __future__ import annotations

import argparse
import io
import time
import tracemalloc
from collections.abc import Callable, Sequence
from math import log
from multiprocessing import get_context

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from scipy.fft import idctn

from brain_mri.data.duplicates import SIDE, clusters, near_duplicate_pairs, orient, thumbnail
from brain_mri.data.image_folder import scan_folder
from brain_mri.errors import ConfigError, run_command
from brain_mri.io.images import read_image
from brain_mri.labels import LABELS
from brain_mri.phantom.dataset import draw_phantom

Bytes = NDArray[np.uint8]

_MODES = 12  # low frequencies that a synthetic thumbnail is drawn from, along each axis
_PLANTED = 10  # every so many synthetic thumbnails has a twin


def _jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return read_image(buffer.getvalue())


def _scale(image: Image.Image, factor: float) -> Image.Image:
    return image.resize((max(1, round(image.width * factor)), max(1, round(image.height * factor))))


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "mirrored": ImageOps.mirror,
    "rotated 90": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "half size": lambda image: _scale(image, 0.5),
    "224 x 224": lambda image: image.resize((224, 224)),
    "JPEG quality 50": lambda image: _jpeg(image, 50),
    "brightness +20%": lambda image: image.point(lambda value: min(255, round(value * 1.2))),
    "brightness -20%": lambda image: image.point(lambda value: round(value * 0.8)),
    "black margin 10%": lambda image: ImageOps.expand(image, image.width // 10),
    "mirrored, 224, JPEG 50": lambda image: _jpeg(ImageOps.mirror(image).resize((224, 224)), 50),
}


def folder_originals(data_dir: str, n: int) -> list[Image.Image]:
    """Draw images at random, one of each patient where known, and one of each cluster of twins."""
    layout = scan_folder(data_dir)
    layout.check()
    groups = layout.patient_groups()
    shuffled = np.random.default_rng(0).permutation(len(layout.images))[: 4 * n]
    chosen = {groups.get(layout.images[i].file_name, layout.images[i].file_name): layout.images[i] for i in shuffled}
    images = [read_image(image.path) for image in chosen.values()]
    thumbnails = np.stack([thumbnail(image) for image in images])
    _, first = np.unique(clusters(len(images), near_duplicate_pairs(thumbnails)), return_index=True)
    return [images[i] for i in first[:n]]


def phantom_originals(n: int) -> list[Image.Image]:
    """Draw synthetic slices, each of another patient."""
    return [draw_phantom(LABELS[i % len(LABELS)], i).image.convert("RGB") for i in range(n)]


def planted_copies(originals: Sequence[Image.Image]) -> list[tuple[str, float, float]]:
    """Return kind, recall and precision of the search for each kind of copy."""
    n = len(originals)
    references = np.stack([thumbnail(image) for image in originals])
    rows = []
    for kind, change in COPIES.items():
        copies = np.stack([thumbnail(change(image)) for image in originals])
        pairs = near_duplicate_pairs(np.concatenate([references, copies]))
        crossing = (pairs.first < n) & (pairs.second >= n)
        right = pairs.second[crossing] - n == pairs.first[crossing]
        rows.append((kind, float(right.sum() / n), float(right.mean()) if len(right) else float("nan")))
    return rows


def synthetic_thumbnails(n: int, seed: int = 0) -> Bytes:
    """Draw smooth random variations of one head, every tenth a turned and noisy copy of the one before it."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(*np.mgrid[:_MODES, :_MODES]) + 1.0
    axis = np.linspace(-1.0, 1.0, SIDE)
    head = 110.0 * (np.hypot(axis[:, None], axis[None]) < 0.85)
    thumbnails = np.empty((n, SIDE, SIDE), np.uint8)
    for i in range(n):
        if i % _PLANTED == _PLANTED - 1:
            picture = orient(thumbnails[i - 1], int(rng.integers(8))) + rng.normal(0.0, 2.0, (SIDE, SIDE))
        else:
            texture = idctn(rng.normal(size=(_MODES, _MODES)) / frequency, s=(SIDE, SIDE), norm="ortho")
            picture = head * (1.0 + 0.45 * texture / texture.std())
        thumbnails[i] = np.clip(picture, 0, 255)
    return thumbnails


def time_search(n: int) -> tuple[float, float, float]:
    """Return CPU seconds, peak memory in MB, and recall of the planted twins, for n synthetic thumbnails."""
    thumbnails = synthetic_thumbnails(n)
    start = time.process_time()
    pairs = near_duplicate_pairs(thumbnails)
    seconds = time.process_time() - start
    planted = np.arange(_PLANTED - 2, n - 1, _PLANTED)
    tracemalloc.start()
    near_duplicate_pairs(thumbnails)
    peak = tracemalloc.get_traced_memory()[1] + thumbnails.nbytes
    found = set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    recall = sum((i, i + 1) in found for i in planted.tolist()) / len(planted)
    return seconds, peak / 1e6, recall


def time_reading(originals: Sequence[Image.Image]) -> float:
    """Return the CPU seconds that reading and shrinking one of the originals takes, as a JPEG file of quality 90."""
    files = []
    for image in originals:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    start = time.process_time()
    for content in files:
        thumbnail(read_image(content))
    return (time.process_time() - start) / len(files)


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", help="folder of images to plant copies of (default: synthetic phantoms)")
    parser.add_argument("--images", type=int, default=400, help="originals drawn at most (default: 400)")
    parser.add_argument("--sizes", type=int, nargs="*", default=[7000, 70000], help="thumbnails to search")
    options = parser.parse_args()
    if options.images < 2 or min(options.sizes, default=_PLANTED) < _PLANTED:
        raise ConfigError(f"--images needs 2 or more, --sizes {_PLANTED} or more.")
    folder = options.data_dir
    originals = folder_originals(folder, options.images) if folder else phantom_originals(options.images)
    print(
        f"{len(originals)} originals from {folder or 'synthetic phantoms'}\n{'copy':<24}{'recall':>8}{'precision':>11}"
    )
    for kind, recall, precision in planted_copies(originals):
        print(f"{kind:<24}{recall:>8.1%}{precision:>11.1%}")
    _print_growth(options.sizes, time_reading(originals))


def _print_growth(sizes: Sequence[int], reading: float) -> None:
    print(f"\nreading and shrinking a file: {1000 * reading:.1f} ms")
    print(
        f"{'thumbnails':>10}{'search s':>10}{'exponent':>10}{'audit s':>9}{'exponent':>10}{'peak MB':>9}{'recall':>8}"
    )
    before: tuple[int, float, float] | None = None
    for n in sizes:
        with get_context("spawn").Pool(1) as pool:
            search, memory, recall = pool.apply(time_search, (n,))
        now = n, search, search + n * reading
        grown = [log(now[k] / before[k]) / log(n / before[0]) for k in (1, 2)] if before and n != before[0] else []
        exponents = [f"{exponent:.2f}" for exponent in grown] or ["", ""]
        times = f"{now[1]:>10.1f}{exponents[0]:>10}{now[2]:>9.1f}{exponents[1]:>10}"
        print(f"{n:>10,}{times}{memory:>9.0f}{recall:>8.1%}", flush=True)
        before = now


if __name__ == "__main__":
    run_command(main)
