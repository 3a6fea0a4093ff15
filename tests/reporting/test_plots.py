from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from brain_mri.inference.postprocess import softmax
from brain_mri.metrics import formulas
from brain_mri.metrics.calibration import REFER_EVERYTHING
from brain_mri.metrics.cases import Cases
from brain_mri.reporting import plots

NAMES = ["glioma", "meningioma", "no_tumor", "pituitary"]
LOG = [
    {"loss": 1.2, "learning_rate": 1e-4, "epoch": 0.5, "step": 5},
    {"loss": 0.8, "learning_rate": 5e-5, "epoch": 1.0, "step": 10},
    {"eval_loss": 0.7, "eval_accuracy": 0.8, "eval_macro_f1": 0.79, "epoch": 1.0, "step": 10},
    {"loss": 0.5, "learning_rate": 0.0, "epoch": 2.0, "step": 20},
    {"eval_loss": 0.6, "eval_accuracy": 0.9, "eval_macro_f1": 0.88, "epoch": 2.0, "step": 20},
    {"train_runtime": 3.0, "train_loss": 0.9, "epoch": 2.0, "step": 20},
]


def cases(lift: float = 3.0, n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, n)
    logits = rng.normal(size=(n, 4))
    logits[np.arange(n), labels] += lift
    return softmax(logits), labels


def figure(formula: Callable, probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return formula(Cases.of(probabilities, labels), np.ones((1, len(labels))))[0]


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "_DPI", 40)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure that is saved during the test."""
    figures: list[Figure] = []
    save = Figure.savefig

    def remember(saved: Figure, *arguments: object, **options: object) -> None:
        figures.append(saved)
        save(saved, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", remember)
    return figures


def words(figure: Figure) -> str:
    return " | ".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))


def is_a_picture(path: Path) -> bool:
    """A PNG with something on it."""
    with Image.open(path) as image:
        low, high = image.convert("L").getextrema()
        return image.format == "PNG" and low < 100 < 250 < high


def test_every_plot_writes_a_png_where_it_was_told_to_and_says_n(tmp_path: Path, drawn: list[Figure]) -> None:
    probabilities, labels = cases()
    pictures = [Image.new("L", (40, 60), 128)] * 3
    folder = tmp_path / "not" / "yet" / "there"
    paths = [
        plots.training_curves(LOG, folder / "curves.png"),
        plots.confusion_matrix(np.eye(4, dtype=int) * 9, NAMES, folder / "matrix.png"),
        plots.roc_curves(probabilities, labels, NAMES, folder / "roc.png"),
        plots.reliability_diagram(probabilities, labels, folder / "reliability.png", before=probabilities),
        plots.referral_curve(probabilities, labels, folder / "referral.png", threshold=0.9),
        plots.worst_mistakes(pictures, ["a", "b", "c"], 3, str(folder / "mistakes.png")),
    ]
    assert sorted(path.name for path in paths) == sorted(path.name for path in folder.iterdir())
    for path, figure in zip(paths, drawn, strict=True):
        assert is_a_picture(path), path
        assert "n = " in words(figure), path


def test_the_training_curves_show_what_the_trainer_logged(tmp_path: Path, drawn: list[Figure]) -> None:
    plots.training_curves(LOG, tmp_path / "curves.png")
    lines = {line.get_label(): line.get_xydata().tolist() for panel in drawn[0].axes for line in panel.lines}
    assert lines == {
        "training": [[0.5, 1.2], [1.0, 0.8], [2.0, 0.5]],
        "validation": [[1.0, 0.7], [2.0, 0.6]],
        "accuracy": [[1.0, 0.8], [2.0, 0.9]],
        "macro F1": [[1.0, 0.79], [2.0, 0.88]],
        "learning rate": [[0.5, 1e-4], [1.0, 5e-5], [2.0, 0.0]],
    }


def test_the_curves_of_a_model_trained_in_stages_show_all_stages(tmp_path: Path, drawn: list[Figure]) -> None:
    last = [{"loss": 0.4, "learning_rate": 1e-5, "epoch": 1.0}]
    plots.training_curves(last, tmp_path / "curves.png", earlier=[LOG, []])
    lines = {line.get_label(): line.get_xydata().tolist() for panel in drawn[0].axes for line in panel.lines}
    assert lines["training"] == [[0.5, 1.2], [1.0, 0.8], [2.0, 0.5], [3.0, 0.4]]
    assert lines["validation"] == [[1.0, 0.7], [2.0, 0.6]]
    assert "n = 3 epochs, 2 evaluations; 2 of 3 stages" in words(drawn[0])
    names = {text.get_text() for panel in drawn[0].axes for text in panel.texts}
    assert names == {"training", "validation", "accuracy", "macro F1", "learning rate"}  # not the line between stages


def test_lines_that_share_a_panel_differ_without_their_colour(tmp_path: Path, drawn: list[Figure]) -> None:
    plots.training_curves(LOG, tmp_path / "curves.png")
    plots.roc_curves(*cases(), NAMES, tmp_path / "roc.png")
    for panel in (panel for figure in drawn for panel in figure.axes):
        looks = [(line.get_linestyle(), line.get_marker()) for line in panel.lines]
        assert len(set(looks)) == len(looks)


def test_names_at_close_ends_do_not_overlap(tmp_path: Path, drawn: list[Figure]) -> None:
    rising = [{"eval_accuracy": score, "eval_macro_f1": score, "epoch": score} for score in (0.5, 1.0)]
    plots.training_curves(rising, tmp_path / "curves.png")
    heights = sorted(text.get_position()[1] for text in drawn[0].axes[1].texts)
    assert heights[1] - heights[0] >= 0.08
    assert heights[1] <= 1.0


def test_a_training_without_validation_or_without_a_log_is_drawn_without_an_empty_panel(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    assert plots.training_curves(LOG[:1], tmp_path / "a.png").is_file()
    assert plots.training_curves([], tmp_path / "b.png").is_file()
    assert [panel.get_ylabel() for panel in drawn[0].axes] == ["loss", "learning rate"]


def test_the_matrix_shows_counts_and_row_percentages(tmp_path: Path, drawn: list[Figure]) -> None:
    plots.confusion_matrix([[3, 1], [0, 0]], ["no", "yes"], tmp_path / "matrix.png")
    cells = [text.get_text() for text in drawn[0].axes[0].texts]
    assert cells == ["3\n75.0%", "1\n25.0%", "0", "0"]  # no percentage of nothing
    assert "no (n = 4)" in words(drawn[0])


def test_a_roc_curve_encloses_the_area_it_states(tmp_path: Path, drawn: list[Figure]) -> None:
    probabilities, labels = cases(lift=1.0)
    plots.roc_curves(probabilities, labels, NAMES, tmp_path / "roc.png")
    areas = figure(formulas.auroc, probabilities, labels)
    for line, name, expected in zip(drawn[0].axes[0].lines, NAMES, areas, strict=False):
        area = np.trapezoid(line.get_ydata(), line.get_xdata())
        assert area == pytest.approx(expected, abs=1e-9)
        assert line.get_label() == f"{name} ({area:.4f})"


def test_a_class_without_images_has_no_roc_curve(tmp_path: Path, drawn: list[Figure]) -> None:
    probabilities, labels = cases()
    kept = labels != 1
    plots.roc_curves(probabilities[kept], labels[kept], NAMES, tmp_path / "roc.png")
    assert "meningioma" not in words(drawn[0])


def test_the_reliability_diagram_states_the_calibration_error(tmp_path: Path, drawn: list[Figure]) -> None:
    probabilities, labels = cases()
    error = figure(formulas.expected_calibration_error, probabilities, labels)
    plots.reliability_diagram(probabilities, labels, tmp_path / "a.png")
    assert f"{error:.4f} model" in words(drawn[0])
    plots.reliability_diagram(np.eye(4)[labels[:30]], labels[:30], tmp_path / "b.png")
    assert drawn[1].axes[0].get_xlim() == (0.9, 1.005)  # every point lies at (1, 1)


def test_the_referral_curve_passes_through_the_figures_of_the_metric(tmp_path: Path, drawn: list[Figure]) -> None:
    probabilities, labels = cases(lift=1.0)
    kept = figure(formulas.referral, probabilities, labels)
    plots.referral_curve(probabilities, labels, tmp_path / "referral.png")
    curve = drawn[0].axes[0].lines[0]
    for share, accuracy in zip((0.05, 0.10, 0.20), kept, strict=True):
        nearest = np.abs(np.asarray(curve.get_xdata()) - share).argmin()
        assert np.asarray(curve.get_ydata())[nearest] == pytest.approx(accuracy, abs=1e-9)
        assert f"{share:.0%}: {accuracy:.2%}" in words(drawn[0])


def test_a_threshold_that_refers_everything_is_drawn_as_such(tmp_path: Path, drawn: list[Figure]) -> None:
    plots.referral_curve(*cases(), tmp_path / "referral.png", threshold=REFER_EVERYTHING)
    assert "no confidence suffices" in words(drawn[0])


def test_the_contact_sheet_shows_twelve_at_most_and_each_with_its_caption(tmp_path: Path, drawn: list[Figure]) -> None:
    pictures = [Image.new("RGB", (30, 30), (shade * 10,) * 3) for shade in range(14)]
    plots.worst_mistakes(pictures, [f"mistake {i}" for i in range(14)], 31, tmp_path / "a.png")
    assert "n = 12 of 31 shown" in words(drawn[0])
    shown = [panel for panel in drawn[0].axes if panel.images]
    assert [panel.get_title() for panel in shown] == [f"mistake {i}" for i in range(12)]
    assert [int(panel.images[0].get_array()[0, 0]) for panel in shown] == [shade * 10 for shade in range(12)]


def test_a_model_without_a_mistake_gets_a_sheet_that_says_so(tmp_path: Path, drawn: list[Figure]) -> None:
    plots.worst_mistakes([], [], 0, tmp_path / "a.png")
    assert "No mistakes" in words(drawn[0])


def test_captions_must_match_the_images(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        plots.worst_mistakes([Image.new("L", (9, 9))], [], 1, tmp_path / "a.png")


def test_threads_can_draw_at_once(tmp_path: Path) -> None:
    probabilities, labels = cases()
    jobs = [
        threading.Thread(target=plots.referral_curve, args=(probabilities, labels, tmp_path / f"{i}.png"))
        for i in range(4)
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_importing_the_room_does_not_import_matplotlib_or_torch() -> None:
    script = (
        "import sys, brain_mri.reporting.plots; sys.exit(bool({'matplotlib', 'torch', 'evaluate'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_search_is_drawn_though_a_trial_diverged(tmp_path: Path) -> None:
    path = plots.search_trials([-np.inf, 0.5, 0.4, -np.inf, 0.8], True, "eval_macro_f1", tmp_path / "search.png")
    assert Image.open(path).size[0] > 300
