from __future__ import annotations

import io
import itertools
import time

import numpy as np
import pytest
from PIL import Image, ImageOps
from scipy.ndimage import gaussian_filter

from brain_mri.data.duplicates import (
    _HALF_ROUNDING,
    ORIENTATIONS,
    SIDE,
    THRESHOLD,
    Pairs,
    _principal_components,
    _signatures,
    _units,
    clusters,
    near_duplicate_pairs,
    orient,
    thumbnail,
)
from brain_mri.errors import ConfigError
from brain_mri.phantom.dataset import draw_phantom


def smooth_thumbnails(n: int, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(n, SIDE, SIDE))
    smooth = gaussian_filter(noise, (0, 4, 4))
    smooth /= np.abs(smooth).max(axis=(1, 2), keepdims=True)
    return (127.5 + 127.4 * smooth).astype(np.uint8)


def similarity(one: np.ndarray, other: np.ndarray) -> float:
    return float((_units(one[None]) * _units(other[None])).sum())


def brute_force(thumbnails: np.ndarray, threshold: float) -> set[tuple[int, int]]:
    units = _units(thumbnails)
    best = np.max([np.einsum("nij,mij->nm", units, orient(units, k)) for k in range(8)], axis=0)
    return {(i, j) for i, j in itertools.combinations(range(len(thumbnails)), 2) if best[i, j] >= threshold}


def recompress(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=50)
    return Image.open(buffer).convert("RGB")


COPIES = {
    "smaller": lambda image: image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC),
    "larger": lambda image: image.resize((image.width * 3 // 2, image.height * 3 // 2), Image.Resampling.BICUBIC),
    "squeezed": lambda image: image.resize((image.width, image.height * 3 // 4)),
    "jpeg 50": recompress,
    "brighter": lambda image: image.point(lambda value: min(255, value + value // 5)),
    "darker": lambda image: image.point(lambda value: value * 4 // 5),
    "black margin": lambda image: ImageOps.expand(image, image.width // 10),
}


@pytest.mark.parametrize("kind", COPIES)
def test_a_processed_copy_has_the_thumbnail_of_its_original(kind: str) -> None:
    for label, seed in (("glioma", 0), ("no_tumor", 2), ("pituitary", 4)):
        image = draw_phantom(label, seed).image.convert("RGB")  # less than 3% of it saturates when brightened
        assert similarity(thumbnail(image), thumbnail(COPIES[kind](image))) > THRESHOLD


def test_a_mirrored_or_turned_copy_has_the_mirrored_or_turned_thumbnail() -> None:
    image = draw_phantom("meningioma", 4).image.convert("RGB")
    assert similarity(orient(thumbnail(image), 1), thumbnail(ImageOps.mirror(image))) > THRESHOLD
    assert similarity(orient(thumbnail(image), 2), thumbnail(image.transpose(Image.Transpose.ROTATE_90))) > THRESHOLD


def test_different_heads_have_different_thumbnails() -> None:
    heads = np.stack([thumbnail(draw_phantom("glioma", seed).image) for seed in range(12)])
    assert len(near_duplicate_pairs(heads)) == 0


def test_pictures_of_one_colour_are_twins_of_each_other_and_of_nothing_else() -> None:
    blanks = [thumbnail(Image.new("RGB", (60, 40), colour)) for colour in ("black", "white")]
    assert not np.any(blanks)
    pairs = near_duplicate_pairs(np.concatenate([smooth_thumbnails(5, seed=0), np.stack(blanks)]), threshold=0.9)
    assert (pairs.first.tolist(), pairs.second.tolist()) == ([5], [6])


def test_a_picture_with_one_bright_pixel_or_one_pixel_high_still_gives_a_thumbnail() -> None:
    dot = Image.new("L", (300, 300))
    dot.putpixel((7, 290), 255)
    for image in (dot, Image.linear_gradient("L").resize((200, 1)), Image.linear_gradient("L").resize((1, 1))):
        assert thumbnail(image).shape == (SIDE, SIDE)


@pytest.mark.parametrize("orientation", range(8))
def test_a_twin_is_found_in_each_orientation_and_named_with_it(orientation: int) -> None:
    originals = smooth_thumbnails(20, seed=0)
    turned = np.stack([t for t in originals])
    turned[17] = orient(originals[3], orientation)
    pairs = near_duplicate_pairs(turned)
    assert (pairs.first.tolist(), pairs.second.tolist()) == ([3], [17])
    assert pairs.similarity[0] == pytest.approx(1.0, abs=1e-5)
    restored = orient(turned[17], int(pairs.orientation[0]))
    assert np.array_equal(restored, turned[3]), ORIENTATIONS[pairs.orientation[0]]


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.95])
def test_the_search_finds_what_comparing_all_pairs_finds(threshold: float) -> None:
    base = smooth_thumbnails(25, seed=1).astype(float)
    mixes = [0.7 * base[i] + 0.3 * orient(base[(i + 1) % 25], i % 8) for i in range(25)]
    thumbnails = np.concatenate([base, np.stack(mixes)]).astype(np.uint8)
    pairs = near_duplicate_pairs(thumbnails, threshold)
    expected = brute_force(thumbnails, threshold)
    assert expected, "the example has no pair to find"
    assert set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == expected


def test_signatures_keep_their_value_when_turned_and_only_shrink_distances() -> None:
    thumbnails = smooth_thumbnails(30, seed=2)
    signatures = _signatures(thumbnails)
    for k in range(8):
        turned = np.ascontiguousarray(orient(thumbnails, k))
        assert np.allclose(_signatures(turned), signatures, atol=1e-3)
        short = np.linalg.norm(signatures[:, None].astype(np.float32) - signatures[None], axis=2)
        units, others = _units(thumbnails).reshape(30, -1), _units(turned).reshape(30, -1)
        full = np.linalg.norm(units[:, None] - others[None], axis=2)
        assert np.all(short <= full + _HALF_ROUNDING)
    reduced = _principal_components(signatures)
    assert np.all(np.linalg.norm(reduced[:, None] - reduced[None], axis=2) <= short + 1e-5)


def test_no_pair_at_the_very_threshold_is_lost_to_half_precision() -> None:
    smooth = smooth_thumbnails(16, seed=4).astype(float)
    # of pictures that look the same in all orientations, signatures lie exactly as far apart as the thumbnails do
    thumbnails = np.mean([orient(smooth, k) for k in range(8)], axis=0)
    thumbnails = (255 * (thumbnails - thumbnails.min()) / np.ptp(thumbnails)).astype(np.uint8)
    units = _units(thumbnails).reshape(16, -1)
    tried = [(i, j) for i, j in itertools.combinations(range(16), 2) if units[i] @ units[j] > 0.1]
    assert len(tried) > 20
    for i, j in tried:
        pairs = near_duplicate_pairs(thumbnails, float(units[i] @ units[j]))
        assert (i, j) in set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))


def test_the_pairs_among_some_images_are_those_found_there() -> None:
    thumbnails = smooth_thumbnails(40, seed=3)
    thumbnails[20:] = thumbnails[:20]
    chosen = np.sort(np.random.default_rng(0).permutation(40)[:25])
    known, searched = near_duplicate_pairs(thumbnails).among(chosen, 40), near_duplicate_pairs(thumbnails[chosen])
    assert len(searched) > 3
    for name in ("first", "second", "similarity", "orientation"):
        assert np.array_equal(getattr(known, name), getattr(searched, name))


def test_clusters_join_a_chain_of_twins() -> None:
    pairs = Pairs(np.array([0, 1, 4]), np.array([1, 2, 5]), np.ones(3, np.float32), np.zeros(3, np.int64))
    assert clusters(6, pairs).tolist() == [0, 0, 0, 1, 2, 2]


@pytest.mark.parametrize("n", [0, 1])
def test_a_set_too_small_for_a_pair_has_none(n: int) -> None:
    assert len(near_duplicate_pairs(smooth_thumbnails(n, seed=0))) == 0
    assert len(clusters(n, near_duplicate_pairs(smooth_thumbnails(n, seed=0)))) == n


@pytest.mark.parametrize("threshold", [0.0, 1.5, float("nan")])
def test_a_threshold_that_is_no_correlation_is_an_error(threshold: float) -> None:
    with pytest.raises(ConfigError, match="above 0 and at most 1"):
        near_duplicate_pairs(smooth_thumbnails(2, seed=0), threshold)


def test_a_thumbnail_of_a_full_size_slice_takes_milliseconds() -> None:
    image = draw_phantom("glioma", 0, size=512).image.convert("RGB")
    times = []
    for _ in range(9):
        start = time.perf_counter()
        thumbnail(image)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.01
