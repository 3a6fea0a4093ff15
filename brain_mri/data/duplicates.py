"""Finding near-duplicates: thumbnails of the head, and all pairs of them that correlate. No torch.

A thumbnail shows only the head and hardly changes when a picture is resized, recompressed, padded or made brighter.
Two images are near-duplicates (twins) if their thumbnails correlate in one of the eight orientations of a square.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from brain_mri.errors import ConfigError

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Halves = NDArray[np.float16]
Ints = NDArray[np.int64]

SIDE = 48
# On the Kaggle set all 1,495 pairs of one slice of a known patient correlate by 0.997 or more, the most alike slices of
# different patients by 0.974, other slices of one patient by 0.989; between lies what a copy loses by its processing.
THRESHOLD = 0.985
ORIENTATIONS = (
    "as is", "mirrored", "rotated 90", "rotated 90 and mirrored",
    "rotated 180", "rotated 180 and mirrored", "rotated 270", "rotated 270 and mirrored",
)  # fmt: skip

_SURVEY_SIDE = 64  # the head is located at one blur for every picture size, so that resized copies agree
_HEAD_SPREAD = 2.2  # half a head's width in standard deviations of its brightness along an axis, with a margin
_AIR = 0.1  # of the typical brightness; darker pixels do not count as head

_LOW_FREQUENCIES = 24
_DIMENSIONS = 48
_ROUNDING = 1e-5
_HALF_ROUNDING = 1.1e-3  # of two signatures in half precision, each at most 1 long: 2^-11 each
_CHUNK = 1024
_COLUMNS = 8192


class Thumbnails(Protocol):
    """An array (n, S, S) of uint8, or an object that reads slices of one as needed."""

    def __len__(self) -> int:
        """Return n."""

    def __getitem__(self, chosen: Any) -> Bytes:
        """Return a slice of the images, or those of an array of indices."""


@dataclass(frozen=True)
class Pairs:
    """Near-duplicate pairs, one element each, sorted by `first`, then `second`.

    Attributes:
        first: index of one image, int64.
        second: index of the other; `first < second`.
        similarity: the best correlation over the eight orientations, float32 in [threshold, 1].
        orientation: index in `ORIENTATIONS` of how `second` must be turned to look like `first` (rotations are
            counterclockwise, mirroring is left to right and comes last), int64.
    """

    first: Ints
    second: Ints
    similarity: Floats
    orientation: Ints

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.first)

    def select(self, kept: NDArray[Any]) -> Pairs:
        """Those chosen by a mask of shape (pairs,) or by indices."""
        return Pairs(self.first[kept], self.second[kept], self.similarity[kept], self.orientation[kept])

    def among(self, chosen: Ints, n: int) -> Pairs:
        """The pairs with both images in `chosen`, numbered by their places there.

        Args:
            chosen: ascending indices of images, int64.
            n: the number of all images.
        """
        place = np.full(n, -1, np.int64)
        place[chosen] = np.arange(len(chosen))
        first, second = place[self.first], place[self.second]
        return replace(self, first=first, second=second).select((first >= 0) & (second >= 0))


def thumbnail(image: Image.Image) -> Bytes:
    """Shrink a picture to its head: uint8 of shape (SIDE, SIDE), grey; zeros for a picture of one colour.

    The window is the centre of brightness plus and minus `_HEAD_SPREAD` standard deviations along each axis. Unlike the
    bounding box of a mask, it moves only by fractions of a pixel when a picture is recompressed or resized. Beyond the
    picture's edge it is black, so that a black margin changes nothing.
    """
    grey = image if image.mode == "L" else image.convert("L")
    low, high = grey.getextrema()
    if low == high:
        return np.zeros((SIDE, SIDE), np.uint8)
    return np.asarray(_resample(grey, _head_window(grey)), np.uint8)


def _head_window(grey: Image.Image) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the head in pixels, possibly outside the picture."""
    size = (_SURVEY_SIDE, _SURVEY_SIDE)
    survey = np.asarray(grey.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0), np.float32)
    typical = np.square(survey).sum() / max(float(survey.sum()), 1.0)
    weight = np.maximum(survey - _AIR * typical, 0.0)
    left, right = _spread(weight.sum(axis=0))
    top, bottom = _spread(weight.sum(axis=1))
    return left * grey.width, top * grey.height, right * grey.width, bottom * grey.height


def _spread(profile: NDArray[Any]) -> tuple[float, float]:
    """The ends of the head along an axis as fractions of the picture."""
    total = float(profile.sum())
    if total == 0.0:
        return 0.0, 1.0
    centres = (np.arange(len(profile)) + 0.5) / len(profile)
    mean = float(profile @ centres) / total
    deviation = max(float(profile @ (centres - mean) ** 2) / total, len(profile) ** -2.0) ** 0.5
    return mean - _HEAD_SPREAD * deviation, mean + _HEAD_SPREAD * deviation


def _resample(grey: Image.Image, window: tuple[float, float, float, float]) -> Image.Image:
    left, top, right, bottom = window
    factor = max(1, int(min(right - left, bottom - top) / (2 * SIDE)))
    if factor > 1:
        grey = grey.reduce(factor)
        left, top, right, bottom = (edge / factor for edge in window)
    margin = int(np.ceil(max(0.0, -left, -top, right - grey.width, bottom - grey.height)))
    if margin:
        padded = Image.new("L", (grey.width + 2 * margin, grey.height + 2 * margin))
        padded.paste(grey, (margin, margin))
        grey = padded
    box = (left + margin, top + margin, right + margin, bottom + margin)
    return grey.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box)


def orient(thumbnails: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn thumbnails of shape (..., S, S) by the entry `orientation` of `ORIENTATIONS`."""
    turned = np.rot90(thumbnails, orientation // 2, axes=(-2, -1))
    return turned[..., ::-1] if orientation % 2 else turned


def near_duplicate_pairs(thumbnails: Thumbnails, threshold: float = THRESHOLD) -> Pairs:
    """Find every pair of thumbnails that correlates by at least `threshold` in one of the eight orientations.

    Exact, although few pairs are compared in full: for unit vectors a and b, `corr >= t` means
    `|a - b|^2 <= 2 (1 - t)`. Each thumbnail is mapped to numbers that no orientation changes and whose distances are
    never larger than those of the thumbnails (`_signatures`). A radius search over their principal components so misses
    no pair, and its pairs are checked by the full correlation. The search compares all signatures by matrix products,
    at about 4 ns a pair, which in dozens of dimensions beats a k-d tree. Up to 100,000 images it takes a small part of
    the time of reading them (`benchmarks/leakage.py`). Memory: about 2 KB an image besides the thumbnails, and the
    pairs found.

    Args:
        thumbnails: uint8 of shape (n, S, S), read a thousand at a time. Those of one colour are twins of each other
            only.
        threshold: correlation in (0, 1].

    Raises:
        ConfigError: `threshold` is not in (0, 1].
    """
    if not 0.0 < threshold <= 1.0:
        raise ConfigError(f"the twin threshold is {threshold}: it must be a correlation above 0 and at most 1.")
    found = [_verify(thumbnails, candidates, threshold) for candidates in _candidates(thumbnails, threshold)]
    none = Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, np.int64))
    first, second, similarity, orientation = (
        np.concatenate([getattr(pairs, name) for pairs in (none, *found)])
        for name in ("first", "second", "similarity", "orientation")
    )
    order = np.lexsort((second, first))
    return Pairs(first[order], second[order], similarity[order], orientation[order])


def clusters(n: int, pairs: Pairs) -> Ints:
    """Number the images from 0 by connected component: int64 of shape (n,), equal for images joined by twins."""
    graph = coo_matrix((np.ones(len(pairs), bool), (pairs.first, pairs.second)), shape=(n, n))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


def _units(thumbnails: Bytes) -> Floats:
    """Centre each thumbnail and scale it to length 1, so that a product is a correlation.

    One of a single colour becomes the constant vector of length 1: its product with its like is 1, with all others 0.
    """
    centred = thumbnails.astype(np.float32)
    centred -= centred.mean(axis=(1, 2), keepdims=True)
    centred[np.ptp(thumbnails, axis=(1, 2)) == 0] = 1.0
    centred /= np.linalg.norm(centred, axis=(1, 2), keepdims=True)
    return centred


def _signatures(thumbnails: Thumbnails) -> Halves:
    """Describe thumbnails by numbers that are the same in all eight orientations, with distances that only shrink.

    Mirroring a picture multiplies its DCT coefficient C[p, q] by (-1)^q, turning it upside down by (-1)^p, and
    transposing swaps C[p, q] with C[q, p]. So these do not change: C[p, q] + C[q, p] for p and q even, the magnitudes
    of C[p, q] + C[q, p] and C[p, q] - C[q, p] for p and q both even or both odd, and the length of
    (C[p, q], C[q, p]) otherwise. The DCT is orthonormal, and a magnitude or length changes by no more than its
    vector: for any orientation g, |signature(a) - signature(b)| <= |a - g b|, to half precision (`_HALF_ROUNDING`).

    Returns:
        float16 of shape (n, _LOW_FREQUENCIES^2 - the number of lengths).
    """
    first = _signature_chunk(thumbnails[:1])
    signatures = np.empty((len(thumbnails), first.shape[1]), np.float16)
    for part in _parts(len(thumbnails)):
        signatures[part] = _signature_chunk(thumbnails[part])
    return signatures


def _signature_chunk(thumbnails: Bytes) -> Floats:
    low = dctn(_units(thumbnails), axes=(1, 2), norm="ortho")[:, :_LOW_FREQUENCIES, :_LOW_FREQUENCIES]
    p, q = np.triu_indices(low.shape[1], k=1)
    upper, lower = low[:, p, q], low[:, q, p]
    same = (p + q) % 2 == 0
    total = (upper + lower)[:, same] / np.sqrt(np.float32(2.0))
    total[:, p[same] % 2 == 1] = np.abs(total[:, p[same] % 2 == 1])
    difference = np.abs(upper - lower)[:, same] / np.sqrt(np.float32(2.0))
    diagonal = np.diagonal(low, axis1=1, axis2=2).copy()
    diagonal[:, 1::2] = np.abs(diagonal[:, 1::2])
    return np.concatenate([diagonal, total, difference, np.hypot(upper, lower)[:, ~same]], axis=1)


def _principal_components(points: Halves) -> Floats:
    """Project points on the axes of most variance; distances can only shrink."""
    mean = points.mean(axis=0, dtype=np.float64).astype(np.float32)
    spread = np.zeros((points.shape[1], points.shape[1]), np.float32)
    for part in _parts(len(points)):
        centred = points[part] - mean
        spread += centred.T @ centred
    axes = np.linalg.eigh(spread)[1][:, ::-1][:, :_DIMENSIONS]
    kept = np.empty((len(points), axes.shape[1]), np.float32)
    for part in _parts(len(points)):
        kept[part] = (points[part] - mean) @ axes
    return kept


def _parts(n: int) -> Iterator[slice]:
    """Slices that together cover `range(n)`, each small enough for memory in single precision."""
    return (slice(start, min(start + _CHUNK, n)) for start in range(0, n, _CHUNK))


def _candidates(thumbnails: Thumbnails, threshold: float) -> Iterator[tuple[Ints, Ints]]:
    """Yield chunks of pairs (first, second): every pair at `threshold`, and others."""
    if len(thumbnails) < 2:
        return
    signatures = _signatures(thumbnails)
    radius = np.sqrt(2.0 * (1.0 - threshold)) + _HALF_ROUNDING
    for first, second in _radius_search(_principal_components(signatures), radius):
        yield _within(signatures, first, second, radius)


def _radius_search(points: Floats, radius: float) -> Iterator[tuple[Ints, Ints]]:
    """Yield chunks of the pairs (first < second) of points at most `radius` apart.

    Points are sorted along the first component, so that each is compared only with a slab, by one matrix product:
    (a, -|a|^2/2, 1) (b, 1, -|b|^2/2) = -|a - b|^2 / 2.
    """
    order = np.argsort(points[:, 0], kind="stable")
    points = points[order]
    half, one = -0.5 * np.square(points).sum(axis=1, keepdims=True), np.ones((len(points), 1), np.float32)
    left, right = np.hstack([points, half, one]), np.ascontiguousarray(np.hstack([points, one, half]).T)
    nearest = -0.5 * radius**2 - _ROUNDING
    for start in range(0, len(points), _CHUNK):
        stop = min(start + _CHUNK, len(points))
        reach = int(np.searchsorted(points[:, 0], points[stop - 1, 0] + radius, side="right"))
        for column in range(start, reach, _COLUMNS):
            row, col = np.nonzero(left[start:stop] @ right[:, column : min(column + _COLUMNS, reach)] >= nearest)
            later = row + start < col + column
            one_end, other_end = order[row[later] + start], order[col[later] + column]
            yield np.minimum(one_end, other_end), np.maximum(one_end, other_end)


def _within(points: Halves, first: Ints, second: Ints, radius: float) -> tuple[Ints, Ints]:
    """Keep the pairs of points at most `radius` apart."""
    kept = np.zeros(len(first), bool)
    for part in _parts(len(first)):
        apart = points[first[part]].astype(np.float32) - points[second[part]]
        kept[part] = np.square(apart).sum(axis=1) <= radius**2
    return first[kept], second[kept]


def _verify(thumbnails: Thumbnails, candidates: tuple[Ints, Ints], threshold: float) -> Pairs:
    """Keep the candidates whose correlation in the best orientation is at least `threshold`."""
    first, second = candidates
    similarity, orientation = np.zeros(len(first), np.float32), np.zeros(len(first), np.int64)
    for part in _parts(len(first)):
        a, b = _units(thumbnails[first[part]]), _units(thumbnails[second[part]])
        scores = np.stack([np.einsum("nij,nij->n", a, orient(b, k)) for k in range(len(ORIENTATIONS))])
        similarity[part], orientation[part] = scores.max(axis=0), scores.argmax(axis=0)
    kept = similarity >= threshold - _ROUNDING
    return Pairs(first[kept], second[kept], np.minimum(similarity[kept], 1.0), orientation[kept])
