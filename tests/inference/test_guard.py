from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from brain_mri.errors import ConfigError, DataError
from brain_mri.inference.guard import Guard, joined, widths_of
from brain_mri.model_folder import GUARD, GUARD_TENSORS

_WIDTH = 40


def _embeddings(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Four classes of points in 6 of 40 dimensions, with a little noise in all of them."""
    rng = np.random.default_rng(seed)
    world = np.random.default_rng(0)
    centres, axes = 3.0 * world.normal(size=(4, _WIDTH)), world.normal(size=(6, _WIDTH))
    labels = np.arange(n) % 4
    points = centres[labels] + rng.normal(size=(n, 6)) @ axes + 0.1 * rng.normal(size=(n, _WIDTH))
    return points.astype(np.float32), labels


@pytest.fixture(scope="module")
def guard() -> Guard:
    return Guard.fit(*_embeddings(400, 1), _embeddings(200, 2)[0])


def test_exactly_99_of_100_validation_images_are_accepted() -> None:
    validation = _embeddings(100, 2)[0]
    guard = Guard.fit(*_embeddings(400, 1), validation, acceptance=0.99)
    assert guard.accepts(validation).sum() == 99


@pytest.mark.parametrize("acceptance", [0.5, 0.9, 0.995])
def test_the_threshold_follows_the_acceptance_asked_for(acceptance: float) -> None:
    validation = _embeddings(200, 2)[0]
    guard = Guard.fit(*_embeddings(400, 1), validation, acceptance=acceptance)
    assert guard.accepts(validation).mean() == pytest.approx(acceptance)


def test_new_images_of_the_same_kind_are_accepted_as_often(guard: Guard) -> None:
    assert 0.97 <= guard.accepts(_embeddings(2000, 3)[0]).mean() <= 1.0


def test_a_point_between_the_classes_is_refused(guard: Guard) -> None:
    assert not guard.accepts(_embeddings(400, 1)[0].mean(axis=0, keepdims=True))[0]


def test_a_small_step_where_training_never_varied_is_refused_and_one_along_it_is_not() -> None:
    points, labels = _embeddings(400, 1)
    centre = points[labels == 0].mean(axis=0)
    _, _, directions = np.linalg.svd(points[labels == 0] - centre)
    guard = Guard.fit(points, labels, _embeddings(200, 2)[0])
    along, across = centre + 2.0 * directions[0], centre + 2.0 * directions[-1]
    assert guard.accepts([along]).all() and not guard.accepts([across]).any()


def test_the_distance_is_the_mahalanobis_distance_in_units_of_what_keeps_the_acceptance() -> None:
    rng = np.random.default_rng(0)
    train, validation, given = (rng.normal(size=(n, 3)) * [5.0, 1.0, 1.0] + 4.0 for n in (4000, 500, 50))

    def expected(points: np.ndarray) -> np.ndarray:
        offsets = points - train.mean(axis=0)
        return np.sqrt(np.einsum("ni,ij,nj->n", offsets, np.linalg.inv(np.cov(train.T)), offsets))

    guard = Guard.fit(train, np.zeros(4000, int), validation, acceptance=0.9)
    reference = expected(given) / np.sort(expected(validation))[449]
    assert guard.gaussians[1].distances(given) == pytest.approx(reference, rel=0.03)


def test_the_score_is_the_mean_of_the_distances_in_units_of_the_threshold() -> None:
    points, labels = _embeddings(400, 1)
    guard = Guard.fit(points, labels, _embeddings(200, 2)[0], widths=(30, 10))
    given = _embeddings(50, 4)[0].astype(float)
    views = (given[:, :30], given[:, :30], given[:, 30:], given[:, 30:])
    mean = sum(one.distances(view) for one, view in zip(guard.gaussians, views, strict=True)) / 4
    assert guard.score(given) * guard.threshold == pytest.approx(mean)
    assert guard.widths == (30, 10)


def test_each_part_is_described_by_its_direction_and_by_its_size_too() -> None:
    points, labels = _embeddings(400, 1)
    direction, value = Guard.fit(points, labels, _embeddings(200, 2)[0]).gaussians
    points = points.astype(float)
    assert direction.distances(3.0 * points) == pytest.approx(direction.distances(points), rel=1e-3)
    assert (value.distances(3.0 * points) > 2 * value.distances(points).max()).all()


def test_a_picture_that_only_an_earlier_layer_finds_strange_is_refused() -> None:
    points, labels = _embeddings(400, 1)
    early = np.random.default_rng(7).normal(size=(600, 5))
    held_out = np.hstack([_embeddings(200, 2)[0], early[400:]])
    strange = held_out + np.repeat([0.0, 9.0], [_WIDTH, 5])
    guard = Guard.fit(np.hstack([points, early[:400]]), labels, held_out, widths=(_WIDTH, 5))
    assert guard.accepts(held_out).mean() == pytest.approx(0.99)
    assert not guard.accepts(strange).any()


def test_an_embedding_of_zeros_is_refused(guard: Guard) -> None:
    assert not guard.accepts(np.zeros((1, _WIDTH))).any()


@pytest.mark.parametrize("widths", [(10, 10), (_WIDTH, 0), (_WIDTH + 1,)])
def test_widths_that_do_not_add_up_are_refused(widths: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="add up"):
        Guard.fit(*_embeddings(40, 1), _embeddings(40, 2)[0], widths=widths)


def test_a_forward_pass_is_joined_from_what_the_guard_reads_in_one_order() -> None:
    outputs = {"texture": np.ones((2, 3)), "logits": np.zeros((2, 4)), "embedding": np.full((2, 5), 2.0)}
    np.testing.assert_array_equal(joined(outputs), [[2.0] * 5 + [1.0] * 3] * 2)
    assert widths_of(outputs) == (5, 3)
    del outputs["texture"]
    assert joined(outputs).shape == (2, 5) and widths_of(outputs) == (5,)


def test_a_picture_is_judged_the_same_alone_and_in_a_batch(guard: Guard) -> None:
    points = _embeddings(50, 4)[0]
    assert guard.score(points) == pytest.approx([guard.score(point[None])[0] for point in points])
    assert guard.score(points[:0]).shape == (0,)


def test_what_is_saved_is_what_is_loaded(guard: Guard, tmp_path: Path) -> None:
    points = _embeddings(50, 4)[0]
    guard.save(tmp_path / "model")
    loaded = Guard.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.score(points), guard.score(points))
    assert loaded.acceptance == 0.99
    assert {path.name for path in (tmp_path / "model").iterdir()} == {GUARD, GUARD_TENSORS}


@pytest.mark.parametrize("width", [768, 1280, 2048, 4096])
def test_the_files_stay_under_two_megabytes(width: int, tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(320, width))
    widths = (width - width // 6, width // 6)
    Guard.fit(points, np.arange(320) % 4, points[:100], widths=widths).save(tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 2_000_000


def test_the_axes_are_the_same_from_either_side_of_the_covariance() -> None:
    points, labels = _embeddings(_WIDTH, 1)
    more = np.concatenate([points, points]), np.concatenate([labels, labels])
    few, many = Guard.fit(points, labels, points), Guard.fit(*more, points)
    overlap = np.abs(few.gaussians[1].axes[:6] @ many.gaussians[1].axes[:6].T)
    np.testing.assert_allclose(overlap, np.eye(6), atol=1e-4)


def test_fewer_images_than_dimensions_are_enough() -> None:
    guard = Guard.fit(*_embeddings(24, 1), _embeddings(40, 2)[0])
    far = 50.0 * np.random.default_rng(5).normal(size=(20, _WIDTH))
    assert not guard.accepts(far).any()


@pytest.mark.parametrize(
    ("train", "labels", "validation", "words"),
    [
        (np.zeros((9, 3)), np.zeros(9), np.zeros((4, 3)), "hardly differ"),
        (np.eye(9, 3) - 2, np.arange(9) % 2, np.zeros((0, 3)), "validation embeddings"),
        (np.eye(9, 3), np.zeros(8), np.zeros((4, 3)), "shape"),
        (np.eye(9, 3), np.zeros(9), np.zeros((4, 2)), "shape"),
        (np.full((9, 3), np.nan), np.zeros(9), np.zeros((4, 3)), "not finite"),
    ],
)
def test_unusable_embeddings_are_named(
    train: np.ndarray, labels: np.ndarray, validation: np.ndarray, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        Guard.fit(train, labels, validation)


@pytest.mark.parametrize("acceptance", [0.0, 1.0, 99.0])
def test_an_acceptance_that_is_no_share_is_refused(acceptance: float) -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        Guard.fit(*_embeddings(40, 1), _embeddings(40, 2)[0], acceptance=acceptance)


def test_embeddings_of_another_model_are_refused(guard: Guard) -> None:
    with pytest.raises(DataError, match="another model"):
        guard.score(np.zeros((2, _WIDTH + 1)))


def test_a_folder_without_a_guard_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no guard\.json"):
        Guard.load(tmp_path)


def _damage_truncate(folder: Path) -> None:
    (folder / GUARD_TENSORS).write_bytes((folder / GUARD_TENSORS).read_bytes()[:100])


def _damage_missing(folder: Path) -> None:
    (folder / GUARD_TENSORS).unlink()


def _damage_json(folder: Path) -> None:
    (folder / GUARD).write_text("{")


def _damage_method(folder: Path) -> None:
    settings = json.loads((folder / GUARD).read_text())
    (folder / GUARD).write_text(json.dumps(settings | {"method": "crystal_ball"}))


def _damage_shape(folder: Path) -> None:
    tensors = load_file(folder / GUARD_TENSORS)
    save_file(tensors | {"0.axes": tensors["0.axes"][:, :-1].copy()}, folder / GUARD_TENSORS)


def _damage_parts(folder: Path) -> None:
    settings = json.loads((folder / GUARD).read_text())
    (folder / GUARD).write_text(json.dumps(settings | {"parts": []}))


def _damage_nesting(folder: Path) -> None:
    (folder / GUARD).write_text("[" * 100_000)


def _damage_threshold(folder: Path) -> None:
    settings = json.loads((folder / GUARD).read_text())
    (folder / GUARD).write_text(json.dumps(settings | {"threshold": float("inf")}))


def _damage_scale(folder: Path) -> None:
    settings = json.loads((folder / GUARD).read_text())
    parts = [part | {"scale": 1e9} for part in settings["parts"]]
    (folder / GUARD).write_text(json.dumps(settings | {"parts": parts}))


def _damage_values(folder: Path) -> None:
    tensors = load_file(folder / GUARD_TENSORS)
    save_file(tensors | {"0.means": tensors["0.means"] * np.float32(np.nan)}, folder / GUARD_TENSORS)


_DAMAGES = [_damage_truncate, _damage_missing, _damage_json, _damage_nesting, _damage_method, _damage_shape]
_DAMAGES += [_damage_parts, _damage_threshold, _damage_scale, _damage_values]


@pytest.mark.parametrize("damage", _DAMAGES)
def test_a_damaged_guard_is_an_error_of_one_sentence(damage, guard: Guard, tmp_path: Path) -> None:
    guard.save(tmp_path)
    damage(tmp_path)
    with pytest.raises(ConfigError, match="refit_guard"):
        Guard.load(tmp_path)


def test_saving_over_an_old_guard_never_leaves_two_halves(
    guard: Guard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard.save(tmp_path)

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        guard.save(tmp_path)
    monkeypatch.undo()
    with pytest.raises(ConfigError, match=r"no guard\.json"):
        Guard.load(tmp_path)


def test_scoring_imports_neither_torch_nor_scipy_nor_scikit_learn(guard: Guard, tmp_path: Path) -> None:
    guard.save(tmp_path)
    code = (
        "import sys\n"
        "for name in ('torch', 'scipy', 'sklearn', 'transformers'): sys.modules[name] = None\n"
        "import numpy as np\n"
        "from brain_mri.inference.guard import Guard\n"
        f"print(Guard.load(sys.argv[1]).accepts(np.full((1, {_WIDTH}), 1e3)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[False]"
