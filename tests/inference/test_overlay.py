from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from brain_mri.inference.overlay import draw_overlay, enlarge, evidence_region

_LINE = (86, 180, 233)


def test_an_enlarged_map_keeps_its_level_and_its_place() -> None:
    assert np.allclose(enlarge(np.full((7, 5), 3.0), 50, 70), 3.0)
    evidence = np.zeros((14, 14))
    evidence[3, 9] = 1
    row, column = np.unravel_index(enlarge(evidence, 280, 140).argmax(), (140, 280))
    assert abs(row / 140 - 3.5 / 14) < 0.02 and abs(column / 280 - 9.5 / 14) < 0.02


def test_two_strong_neighbours_peak_between_them() -> None:
    evidence = np.zeros((14, 14))
    evidence[6, 6:8] = 1
    column = np.unravel_index(enlarge(evidence, 224, 224).argmax(), (224, 224))[1]
    assert column in (111, 112)


def test_the_region_is_where_the_map_is_at_least_half_as_strong() -> None:
    region = evidence_region(np.array([[-5.0, 1.0], [2.0, 4.0]]))
    assert region.tolist() == [[False, False], [True, True]]
    assert not evidence_region(-np.ones((3, 3))).any(), "evidence against a class is no evidence for it"


def test_a_higher_level_draws_a_smaller_contour() -> None:
    enlarged = enlarge(np.eye(14) + np.eye(14, k=1), 224, 224)
    areas = [evidence_region(enlarged, level).sum() for level in (0.2, 0.5, 0.8, 1.0)]
    assert areas == sorted(areas, reverse=True) and areas[0] > 2 * areas[2] > 0 < areas[3]
    slice_, evidence = Image.new("L", (224, 224), 100), np.zeros((14, 14))
    evidence[3:8, 5:11] = 2.0
    tight, wide = (np.asarray(draw_overlay(slice_, evidence, level=level)) for level in (0.9, 0.3))
    lines = [np.argwhere((drawn == _LINE).all(axis=-1)) for drawn in (tight, wide)]
    assert (np.ptp(lines[0], axis=0) < np.ptp(lines[1], axis=0)).all()


def test_a_cross_marks_the_peak_even_at_the_edge_of_the_picture() -> None:
    for row, column in ((3, 9), (0, 0), (13, 13)):
        evidence = np.full((14, 14), -1.0)
        evidence[row, column] = 4
        drawn = np.asarray(draw_overlay(Image.new("L", (224, 224), 100), evidence, level=0.3))
        at = np.unravel_index(enlarge(evidence, 224, 224).argmax(), (224, 224))
        assert (drawn[at] == _LINE).all()


@pytest.mark.parametrize("size", [(224, 224), (300, 180), (1000, 1200)])
def test_the_overlay_is_as_large_as_its_slice_and_marks_the_peak(size: tuple[int, int]) -> None:
    slice_ = Image.new("L", size, 100)
    evidence = np.full((14, 14), -1.0)
    evidence[3, 9] = 4
    drawn = draw_overlay(slice_, evidence)
    assert drawn.size == size and drawn.mode == "RGB"
    pixels = np.asarray(drawn).astype(int)
    at = pixels[int(size[1] * 3.66 / 14), int(size[0] * 9.66 / 14)]  # beside the cross
    assert at[0] > at[2] + 20, "the peak is warm"
    assert (pixels == _LINE).all(axis=-1).any(), "and outlined"
    assert (pixels[int(size[1] * 0.9), int(size[0] * 0.1)] == 100).all(), "the rest is the slice"


def test_without_opacity_or_positive_evidence_the_slice_is_unchanged() -> None:
    slice_ = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8))
    evidence = np.arange(49.0).reshape(7, 7)
    for drawn in (draw_overlay(slice_, evidence, opacity=0), draw_overlay(slice_, -evidence - 1)):
        assert np.array_equal(np.asarray(drawn), np.asarray(slice_))
