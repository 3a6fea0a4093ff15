from __future__ import annotations

import numpy as np
import pytest

from brain_mri.metrics.localization import choose_levels, localization, score_map
from brain_mri.metrics.scores import mean_score

_BOX = (0.25, 0.75, 0.2, 0.2)


def _peak(row: int, column: int, side: int = 14) -> np.ndarray:
    evidence = np.full((side, side), -1.0, dtype=np.float32)
    evidence[row, column] = 5
    return evidence


def test_a_peak_in_the_box_points_right_and_one_elsewhere_does_not() -> None:
    hit, miss = score_map(_peak(10, 3), _BOX), score_map(_peak(2, 10), _BOX)
    assert hit["pointing_game"] == 1 and miss["pointing_game"] == 0
    assert hit["mass_inside"] > 0.9 and miss["mass_inside"] == 0
    assert hit["overlap"] > 0.1 and miss["overlap"] == 0


def test_a_flat_map_has_the_mass_of_the_box_s_area() -> None:
    judged = score_map(np.ones((7, 7)), _BOX)
    assert judged["mass_inside"] == pytest.approx(judged["box_area"], rel=1e-4) == pytest.approx(0.04, rel=0.1)


def test_a_map_that_speaks_against_its_class_everywhere_has_no_mass() -> None:
    judged = score_map(-np.ones((7, 7)), _BOX)
    assert judged["mass_inside"] == 0 and judged["overlap"] == 0


def test_random_maps_hit_as_often_as_the_box_is_large() -> None:
    rng = np.random.default_rng(0)
    hits = [score_map(rng.normal(size=(14, 14)), (0.25, 0.5, 0.5, 1.0))["pointing_game"] for _ in range(400)]
    assert np.mean(hits) == pytest.approx(0.5, abs=0.08)


def test_the_true_class_is_judged_and_images_without_a_box_are_left_out() -> None:
    evidence = np.stack([np.stack([_peak(10, 3), _peak(2, 10)])] * 4)
    boxes = [_BOX, _BOX, _BOX, (float("nan"),) * 4]
    found = localization(evidence, [0, 0, 1, 0], boxes, ["a", "b"], ["p1", "p2", "p3", None])
    assert found["n"] == 3 and found["n_groups"] == 3
    assert found["pointing_game"]["value"] == pytest.approx(2 / 3)
    assert found["per_class"]["a"]["pointing_game"]["value"] == 1
    assert found["per_class"]["b"]["pointing_game"]["value"] == 0
    assert found["pointing_game"]["low"] <= 2 / 3 <= found["pointing_game"]["high"]


def _cone(width: float, side: int = 14) -> np.ndarray:
    """A map that falls off from the middle of `_BOX`, to half in `width`, a share of the image."""
    places = (np.arange(side) + 0.5) / side
    distance = np.hypot(places[:, None] - _BOX[1], places[None, :] - _BOX[0])
    return np.maximum(1 - distance / (2 * width), 0.01).astype(np.float32)


def test_the_level_is_the_one_that_fits_the_boxes_and_each_class_has_its_own() -> None:
    evidence = np.stack([np.stack([_cone(0.3), _cone(0.12), _cone(0.2)])] * 4)
    labels, boxes = [0, 0, 1, 2], [_BOX, _BOX, _BOX, (float("nan"),) * 4]
    levels = choose_levels(evidence, labels, boxes, ["wide", "narrow", "unboxed"])
    assert set(levels) == {"wide", "narrow"}, "no box, no level"
    assert 0.5 < levels["narrow"] < levels["wide"] < 1
    for k, name in enumerate(("wide", "narrow")):
        overlaps = [score_map(evidence[0, k], _BOX, level)["overlap"] for level in np.arange(0.05, 1, 0.05)]
        assert score_map(evidence[0, k], _BOX, levels[name])["overlap"] == max(overlaps) > 0.6


def test_overlap_and_area_are_those_of_the_contour_at_the_class_s_level() -> None:
    evidence, names = np.stack([np.stack([_cone(0.3), _cone(0.12)])] * 2), ["wide", "narrow"]
    at_half = localization(evidence, [0, 1], [_BOX] * 2, names, ["p1", "p2"])
    levels = choose_levels(evidence, [0, 1], [_BOX] * 2, names)
    chosen = localization(evidence, [0, 1], [_BOX] * 2, names, ["p1", "p2"], levels)
    assert "levels" not in at_half and chosen["levels"] == levels
    assert chosen["overlap"]["value"] > at_half["overlap"]["value"] + 0.2
    assert chosen["pointing_game"] == at_half["pointing_game"]
    assert chosen["per_class"]["wide"]["area_ratio"]["value"] == pytest.approx(1, abs=0.3)
    assert at_half["per_class"]["wide"]["area_ratio"]["value"] > 4
    assert chosen["area_ratio"]["low"] <= chosen["area_ratio"]["value"] <= chosen["area_ratio"]["high"]


def test_without_any_box_nothing_is_said() -> None:
    assert localization(np.ones((2, 2, 4, 4)), [0, 1], [(float("nan"),) * 4] * 2, ["a", "b"], [None, None]) == {}


def test_the_interval_of_a_mean_resamples_whole_patients() -> None:
    values = [1.0] * 50 + [0.0] * 50
    alone = mean_score(values, [None] * 100)
    together = mean_score(values, [f"p{i // 25}" for i in range(100)])
    assert alone["value"] == together["value"] == 0.5
    assert together["high"] - together["low"] > 2 * (alone["high"] - alone["low"])
    assert mean_score(values, ["one"] * 100) == {"value": 0.5}, "one patient has no spread"


def test_a_ratio_of_sums_weighs_each_image_by_its_base() -> None:
    found = mean_score([1.0, 8.0], ["p1", "p2"], per=[1.0, 2.0])
    assert found["value"] == pytest.approx(3) and 1 <= found["low"] <= 3 <= found["high"] <= 4
