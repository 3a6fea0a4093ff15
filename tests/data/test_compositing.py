from __future__ import annotations

import numpy as np
import pytest

from brain_mri.data.compositing import Box, Slice, composite, overlap

_SIDE = 96
_MIDDLE: Box = (0.5, 0.5, 0.2, 0.2)


def _head(tissue: int, centre: tuple[int, int] = (48, 48), radii: tuple[int, int] = (40, 34), air: int = 0) -> Slice:
    """A disc of one grey, with a little noise, on plain air."""
    y, x = np.mgrid[:_SIDE, :_SIDE]
    inside = ((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2 <= 1
    noise = np.random.default_rng(tissue).integers(-3, 4, inside.shape)
    found = Slice.of(np.where(inside, tissue + noise, air).clip(0, 255).astype(np.uint8))
    assert found is not None
    return found


def _with_tumor(tissue: int, tumor: int, **where: tuple[int, int]) -> Slice:
    donor = _head(tissue, **where)
    pixels = donor.pixels.copy()
    left, top, width, height = (round(v) for v in donor.window)
    x, y = left + width // 2, top + height // 2
    pixels[y - height // 10 : y + height // 10, x - width // 10 : x + width // 10] = tumor
    return Slice(pixels, donor.head, donor.window)


@pytest.mark.parametrize("air", [0, 60])
def test_the_head_is_found_on_black_and_on_grey(air: int) -> None:
    head = _head(150, radii=(30, 40), air=air)
    assert head.window == pytest.approx((18, 8, 61, 81), abs=2)
    assert head.head.sum() == pytest.approx(np.pi * 30 * 40, rel=0.05)


def test_a_picture_of_one_colour_has_no_head() -> None:
    assert Slice.of(np.full((_SIDE, _SIDE), 90, np.uint8)) is None


def test_holes_belong_to_the_head() -> None:
    pixels = _head(150).pixels.copy()
    pixels[40:56, 40:56] = 0
    found = Slice.of(pixels)
    assert found is not None and found.head[48, 48]


def test_a_box_is_carried_to_the_same_place_of_another_head_and_back() -> None:
    one, other = _head(150, (40, 50), (20, 30)), _head(150, (56, 44), (36, 40))
    there = one.carried(_MIDDLE, other)
    assert there[2] > _MIDDLE[2] and there[3] > _MIDDLE[3]
    assert other.carried(there, one) == pytest.approx(_MIDDLE)


def test_a_tumor_is_laid_where_its_box_says_as_bright_against_its_surroundings() -> None:
    host = _head(100, (40, 48), (30, 40))
    donor = _with_tumor(60, 108, centre=(52, 48), radii=(40, 30))
    box = donor.carried((52 / 96, 0.5, 16 / 96, 12 / 96), host)
    mixed = composite(host, donor, box)
    assert mixed is not None
    x, y = round(box[0] * _SIDE), round(box[1] * _SIDE)
    assert abs(int(mixed[y, x]) - 180) < 8, "108 against 60 is 180 against 100"
    far = np.hypot(*np.meshgrid(np.arange(_SIDE) - x, np.arange(_SIDE) - y)) > 24
    assert np.array_equal(mixed[far], host.pixels[far])


def test_the_corners_of_a_removed_box_are_covered_too() -> None:
    host, donor = _with_tumor(100, 200), _head(100)
    tumor = host.pixels == 200
    rows, columns = np.nonzero(tumor)
    box = (
        (columns.min() + columns.max() + 1) / 2 / _SIDE,
        (rows.min() + rows.max() + 1) / 2 / _SIDE,
        (np.ptp(columns) + 1) / _SIDE,
        (np.ptp(rows) + 1) / _SIDE,
    )
    mixed = composite(host, donor, box)
    assert mixed is not None and mixed[tumor].max() < 115


@pytest.mark.parametrize(
    ("host", "donor", "box"),
    [
        (_head(200), _head(40), _MIDDLE),
        (_head(200), _with_tumor(120, 250), _MIDDLE),
        (_head(100), _head(100), (0.02, 0.02, 0.2, 0.2)),
        (_head(100), _head(100), (1.5, 0.5, 0.2, 0.2)),
    ],
    ids=["other brightness", "beyond white", "not in the head", "not in the picture"],
)
def test_what_does_not_fit_is_left_out(host: Slice, donor: Slice, box: Box) -> None:
    assert composite(host, donor, box) is None


def test_regions_that_touch_overlap() -> None:
    assert overlap(_MIDDLE, (0.7, 0.5, 0.2, 0.2))
    assert not overlap(_MIDDLE, (0.85, 0.5, 0.2, 0.2))
