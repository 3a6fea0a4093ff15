from __future__ import annotations

import numpy as np
import pytest

from brain_mri.data.compositing import Grey, Slice
from brain_mri.data.lesions import paint

_SIDE = 96


def _head(brightness: int = 90) -> Grey:
    """A round head with some pattern, on black."""
    down, across = np.mgrid[:_SIDE, :_SIDE]
    inside = np.hypot(down - _SIDE / 2, across - _SIDE / 2) < 0.42 * _SIDE
    pattern = brightness + 10 * np.sin(down / 5) * np.cos(across / 7)
    return np.where(inside, pattern, 0).round().astype(np.uint8)


def _host(pixels: Grey) -> Slice:
    found = Slice.of(pixels)
    assert found is not None
    return found


@pytest.mark.parametrize("seed", range(20))
def test_a_lesion_lies_in_the_brain_and_within_its_box(seed: int) -> None:
    before, painted = _head(), paint(_host(_head()), np.random.default_rng(seed))
    assert painted is not None
    after, (x, y, width, height) = painted
    changed = np.abs(after.astype(int) - before) > 25
    rows, columns = np.nonzero(changed)
    assert len(rows) and (np.hypot(rows - _SIDE / 2, columns - _SIDE / 2) < 0.36 * _SIDE).all()
    soft = 0.15  # of the picture, that the edge may reach beyond the box
    assert (np.abs((columns + 0.5) / _SIDE - x) < width / 2 + soft).all()
    assert (np.abs((rows + 0.5) / _SIDE - y) < height / 2 + soft).all()
    assert np.array_equal(after[before == 0], before[before == 0])


def test_lesions_are_bright_and_dark_small_and_large() -> None:
    before, host, rng = _head().astype(int), _host(_head()), np.random.default_rng(1)
    painted = [found for found in (paint(host, rng) for _ in range(60)) if found]
    changes = [(after.astype(int) - before) for after, _ in painted]
    strongest = [change.flat[np.abs(change).argmax()] for change in changes]
    assert min(np.sum(np.array(strongest) > 0), np.sum(np.array(strongest) < 0)) >= 10
    areas = np.array([box[2] * box[3] for _, box in painted])
    assert areas.min() < 0.02 and areas.max() > 0.1


def test_the_same_seed_paints_the_same() -> None:
    first, again, other = (paint(_host(_head()), np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert first is not None and again is not None and other is not None
    assert np.array_equal(first[0], again[0]) and first[1] == again[1] and not np.array_equal(first[0], other[0])


def test_a_head_too_small_for_a_lesion_gets_none() -> None:
    tiny = np.zeros((_SIDE, _SIDE), np.uint8)
    tiny[40:44, 40:44] = 90
    assert paint(_host(tiny), np.random.default_rng(0)) is None
