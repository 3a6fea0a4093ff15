from __future__ import annotations

import base64
import csv
import io
import json
import re
import shutil
import sys
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("gradio", reason="gradio is not installed: pip install -r space/requirements.txt")
pytest.importorskip("mcp", reason="mcp is not installed: pip install -r space/requirements.txt")

from support.scans import placed, zipped
from support.space_server import SPACE, grey, photograph, write_model

from brain_mri.inference.predictions import not_mri
from brain_mri.labels import LABELS

sys.path.insert(0, str(SPACE))

from page import about, pictures, service, viewing, views
from page.texts import languages, texts

_NOTICE = "Research and teaching, not a diagnosis."


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("toy") / "model")


@pytest.fixture
def judge(model: Path, tmp_path: Path) -> service.Service:
    return service.Service(str(model), tmp_path, 180)


def test_a_refusal_names_no_class_anywhere_on_the_page(judge: service.Service) -> None:
    for language in languages():
        t = texts(language)
        refused = judge.classifier.predict(photograph())
        html = views.answer_html(judge, refused, t)
        assert t["reason_titles"]["not_brain_mri"] in _plain(html) and t("notice") in _plain(html)
        assert not any(t.label(label) in _plain(html) for label in LABELS)
        unsure = _plain(views.answer_html(judge, judge.classifier.predict(grey(0.25)), t))
        assert t["reason_titles"]["below_threshold"] in unsure and t("notice") in unsure
        assert not any(t.label(label) in unsure for label in LABELS)


def test_a_volume_without_an_answer_says_in_how_many_slices_a_tumour_was_named(judge: service.Service) -> None:
    slices = [judge.classifier.predict(grey(shade)) for shade in (0.375, 0.625, 0.25, 0.25)]
    assert [one.label for one in slices] == ["meningioma", "no_tumor", None, None]
    for language in languages():
        t = texts(language)
        assert t("volume_title_tumours", tumours=1, count=4) in _plain(
            views.answer_html(judge, judge.classifier.summarize(slices), t)
        )
        unsure = judge.classifier.summarize(slices[2:])
        assert t("volume_title_tumours", tumours=0, count=2) not in _plain(views.answer_html(judge, unsure, t))


def test_an_answer_says_class_confidence_set_and_place(judge: service.Service) -> None:
    t = texts()
    html = views.answer_html(judge, judge.classifier.predict(grey(0.375)), t)
    assert "The model's answer: meningioma" in _plain(html)
    assert t("not_a_finding", label=t.label("meningioma")) in _plain(html)
    assert 'alt="The slice with the evidence for meningioma laid over it: the strongest is at the top left."' in html
    assert "The model's answer: meningioma." in re.search('alt="(The slice you gave[^"]*)"', html)[1].replace(
        "&#39;", "'"
    )
    healthy = views.answer_html(judge, judge.classifier.predict(grey(0.625)), t)
    assert "bm-layer" not in healthy and texts()("not_looked_for") in _plain(healthy)


def test_an_upload_may_be_called_anything(judge: service.Service) -> None:
    for number, name in enumerate(("..", ".", "", "/", "\U0001f9e0" * 200 + ".png")):
        grey(0.375).save(judge.uploads / f"{number}.png")
        files = [{"path": str(judge.uploads / f"{number}.png"), "orig_name": name}]
        assert len(judge.read([*files, {"path": str(judge.uploads / "0.png"), "orig_name": "b.png"}]).images) == 2


def test_the_sweeper_outlives_an_upload_that_is_renamed_under_its_hands(
    judge: service.Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    (judge.uploads / "old.png").write_bytes(b"")
    listed = [(str(judge.uploads / "gone"), [], ["b.png"]), (str(judge.uploads), [], ["renamed.png", "old.png"])]
    monkeypatch.setattr(service.os, "walk", lambda *_, **__: listed)
    judge.keep = -1  # everything is old
    judge.sweep()
    assert not (judge.uploads / "old.png").exists()


def test_the_slider_blends_what_overlay_draws(judge: service.Service) -> None:
    answer = judge.classifier.predict(grey(0.375))
    layer = np.asarray(pictures.evidence_layer(answer, answer.image, "meningioma").convert("RGBA"), dtype=np.float64)
    cover, slice_ = layer[..., 3:] / 255, np.asarray(answer.image, dtype=np.float64)
    inside = cover[..., 0] < 0.9  # away from the outline, and where the wash is not yet its own peak
    assert inside.mean() > 0.2 and cover.max() > 0.95
    for opacity in (0.0, 0.3, 0.45, 0.9):
        blended = slice_ * (1 - opacity * cover) + layer[..., :3] * opacity * cover
        drawn = np.asarray(answer.overlay("meningioma", opacity), dtype=np.float64)
        assert np.abs(blended - drawn)[inside].max() <= 2.5


def test_every_export_carries_the_notice_the_file_and_the_model(judge: service.Service) -> None:
    for picture in (grey(0.375), grey(0.25), photograph()):
        html = views.answer_html(judge, judge.classifier.predict(picture), texts())
        lines = json.loads(re.search("bm-export[^>]* data-lines='([^']*)'", html)[1])
        assert _NOTICE in " ".join(lines) and lines[0].rstrip(".") in _plain(html)
        assert judge.model in lines[-1] and "picture" in lines[-1]
    assert all((row["notice"], row["model"]) == (_NOTICE, judge.model) for row in _table(judge, ["a.png"]))


def test_the_exported_map_of_an_unsure_slice_says_that_it_is_no_finding(judge: service.Service) -> None:
    unsure = judge.classifier.predict(grey(0.25))
    html = views.answer_html(judge, unsure, texts())
    lines = json.loads(unescape(re.search("bm-export[^>]* data-lines='([^']*)'", html)[1]))
    assert viewing.evidence_note(unsure, texts()) in lines


def test_a_refusal_says_that_it_is_no_word_on_health_and_whom_to_ask(judge: service.Service) -> None:
    refused = judge.classifier.predict(photograph())
    for answer in (refused, judge.classifier.summarize([refused] * 3), not_mri("a.dcm", "a CT picture")):
        html = _plain(views.answer_html(judge, answer, texts()))
        assert "nothing about health" in html and texts()("notice_more") in html


def _table(judge: service.Service, names: list[str]) -> list[dict[str, str]]:
    from dataclasses import replace

    shades = [grey(0.375), grey(0.25), photograph()]
    slices = [replace(judge.classifier.predict(shades[i % 3]), name=name) for i, name in enumerate(names)]
    html = views.answer_html(judge, judge.classifier.summarize(slices), texts())
    content = base64.b64decode(re.search('href="data:text/csv;charset=utf-8;base64,([^"]*)"', html)[1]).decode()
    return list(csv.DictReader(io.StringIO(content)))


def test_the_table_for_download_withholds_what_the_page_withholds(judge: service.Service) -> None:
    answered, unsure, refused = _table(judge, ["a.png", "=1+1.png", "c.png"])
    assert answered["verdict"] == "answer" and answered["label"] == "meningioma" and float(answered["score"]) > 0.9
    assert (unsure["verdict"], refused["verdict"]) == ("unsure", "refused")
    for row in (unsure, refused):
        assert row["reason"] and not any(row[key] for key in ("label", "score", "prediction_set", *LABELS))
    assert unsure["name"] == "'=1+1.png", "a spreadsheet would run it as a formula"


@pytest.mark.parametrize(
    "name", [" =1+1.png", "\uff1d1+1.png", "\ufeff=1+1.png", "+1.png", "@x.png", "\u00a0=1.png", "(=1).png", "'=1.png"]
)
def test_no_cell_of_the_table_begins_with_anything_but_a_letter_or_a_digit(judge: service.Service, name: str) -> None:
    (row,) = _table(judge, [name])
    assert row["name"] == f"'{name}"


def test_a_name_cannot_open_a_cell_of_its_own_where_cells_are_separated_otherwise(judge: service.Service) -> None:
    rows = _table(judge, ["a;=1+1.png", "a\t=1+1.png", "a|=1.png", "\u00c4rzte 2.png"])
    assert [row["name"] for row in rows] == ["a_=1+1.png", "a_=1+1.png", "a_=1.png", "\u00c4rzte 2.png"]


def test_a_file_name_cannot_bring_code_into_the_page(judge: service.Service) -> None:
    from dataclasses import replace

    evil = '"><img src=x onerror=alert(1)>.png'
    answer = replace(judge.classifier.predict(grey(0.375)), name=evil)
    volume = judge.classifier.summarize([answer, answer])
    error = service.ImageError(f"{evil}: broken.")
    for html in (views.answer_html(judge, answer, texts()), views.answer_html(judge, volume, texts())):
        assert "<img src=x" not in html and "&lt;img src=x" in html
    assert "<img src=x" not in views.error_html(judge, error, texts())


def test_the_curve_breaks_where_slices_have_no_answer(judge: service.Service) -> None:
    known, stranger = judge.classifier.predict(grey(0.375)), judge.classifier.predict(photograph())
    html = views.answer_html(judge, judge.classifier.summarize([known, known, stranger, known]), texts())
    paths = re.findall('<path class="bm-line bm-line-1" d="([^"]*)"', html)
    assert paths[0].count("M") == 2 and paths[0].count("L") == 1, "two slices joined, one alone"
    assert "meningioma is highest in slice 1" in html and texts()("curve_gap") in html
    mostly = judge.classifier.summarize([known, stranger, stranger])
    assert texts()("volume_title_tumours", tumours=1, count=3) in _plain(views.answer_html(judge, mostly, texts()))


def test_no_tumour_never_outvotes_the_slices_that_show_one(judge: service.Service) -> None:
    healthy, tumour = judge.classifier.predict(grey(0.625)), judge.classifier.predict(grey(0.375))
    volume = judge.classifier.summarize([healthy] * 30 + [tumour])
    assert volume.probabilities["no_tumor"] > 0.92, "the mean alone would say so"
    assert volume.verdict == "unsure" and volume.reason == "slices_disagree" and volume.label is None
    said = _plain(views.answer_html(judge, volume, texts()))
    assert (
        texts()("volume_title_tumours", tumours=1, count=31) in said and texts()["reasons"]["slices_disagree"] in said
    )
    clear = judge.classifier.summarize([healthy] * 3)
    assert clear.label == "no_tumor" and texts()("not_looked_for") in _plain(views.answer_html(judge, clear, texts()))


def test_about_shows_what_was_measured_and_nothing_else(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    (folder / "evaluation").mkdir()
    accuracy = {"value": 0.8765, "low": 0.81, "high": 0.93}
    scores = {"n": 40, "accuracy": accuracy, "bootstrap": {"level": 0.95, "resamples": 1000}}
    results = {"images": "the test split", "data": {"name": "grey"}, "scores": scores}
    (folder / "evaluation" / "results.json").write_text(json.dumps(results))
    for name in ("confusion_matrix", "worst_mistakes", "evidence_samples"):
        Image.new("L", (8, 8), len(name)).save(folder / "evaluation" / f"{name}.png")
    judge = service.Service(str(folder), tmp_path, 180)
    for language in languages():
        t = texts(language)
        html = about.about_html(judge, t)
        assert t.number("87.65%") in html and t.number("93.00%") in html and t["protocols"]["test"] in html
        assert t["figures"]["macro_f1"] not in html, "not measured, so no row, and no zero"
        assert t["protocols"]["leak-free"] not in html and t["protocols"]["patient-wise"] not in html
        assert html.count("<img") == 1, "the confusion matrix; pictures that show data never"
        assert t("safety_not_measured") in html and html.index(t("safety_title")) < html.index(t.number("87.65%"))
    assert set(about.about_record(judge)) == {"test"}
    bare = service.Service(str(model), tmp_path, 180)
    assert "has not been measured" in about.about_html(bare, texts()) and "<table" not in about.about_html(
        bare, texts()
    )


def test_about_begins_with_the_false_all_clears_on_other_sources(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    (folder / "evaluation").mkdir()
    scores = {"n": 40, "bootstrap": {"level": 0.95, "resamples": 1000}}
    for name, count in (("results", 3), ("external_elsewhere", 106)):
        clear = {"value": count / 455, "low": 0.001, "high": 0.5, "n": 455, "count": count}
        counts = {"tumors_answered": 300, "tumors_named": 300 - count, "tumors_right": 150, "unanswered": 200}
        found = {"tumors": 455, "n_groups": 20, "false_all_clear": clear}
        found |= {key: {"count": value, "value": value / 455} for key, value in counts.items()}
        found["false_alarm"] = {"n": 100, "count": 11}
        record = {"data": {"name": name}, "scores": scores, "safety": found}
        (folder / "evaluation" / f"{name}.json").write_text(json.dumps(record))
    judge = service.Service(str(folder), tmp_path, 180)
    for language in languages():
        t = texts(language)
        html = about.about_html(judge, t)
        assert t.percent(106 / 455) in html and t("safety_not_measured") not in html
        first, second = (html.index(t.percent(count / 455)) for count in (106, 3))
        assert html.index(t("safety_intro")) < first < second
        healthy = t("safety_healthy", healthy=100, cleared=44, healthy_unanswered=45, alarms=11)
        assert html.count(healthy) == 2
        clear = views.answer_html(judge, judge.classifier.predict(grey(0.625)), t)
        assert t("cleared_elsewhere", wrong=106, said=150) in _plain(clear)
    assert about.about_record(judge)["external-elsewhere"]["false_all_clear"]["count"] == 106


def _plain(html: str) -> str:
    return unescape(re.sub("<[^>]*>", " ", re.sub('href="[^"]*"|src="[^"]*"', "", html)))


def _judged(judge: service.Service, given: list[dict[str, str]], number: int | None) -> service.Answer:
    steps = judge.judging(given, series=number)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            answer: service.Answer = end.value
            return answer


def test_the_page_lists_every_series_and_offers_to_judge_the_others(judge: service.Service, tmp_path: Path) -> None:
    files = {f"{uid}{k}": placed(k, SeriesInstanceUID=f"1.{uid}", SeriesDescription=told, SliceThickness=5)
             for uid, told, count in (("1", "t2 tra", 5), ("2", "t1 km", 3)) for k in range(count)}  # fmt: skip
    (tmp_path / "study.zip").write_bytes(zipped(files))
    given = [{"path": str(tmp_path / "study.zip")}]
    for number, chosen, other, count in ((None, 2, 1, 3), (1, 1, 2, 5)):
        answer = _judged(judge, given, number)
        assert [one.number for one in answer.series if one.chosen] == [chosen] and len(answer.slices) == count
        for language in languages():
            html = views.answer_html(judge, answer, texts(language))
            assert re.findall(r'<button type="button" value="(\d+)"', html) == [str(other)]
            assert texts(language)("series_judge") in html and "t2 tra" in html and "t1 km" in html


@pytest.mark.parametrize(
    ("name", "brightness", "said"),
    [
        ("s9.png", 0.625, ("answer", None)),
        ("s9.png", 0.125, ("unsure", "slices_disagree")),
        (".s9.png", 0.125, ("unsure", "slices_disagree")),
        ("._s9.png", 0.125, ("unsure", "slices_disagree")),
        ("__MACOSX_s9.png", 0.125, ("unsure", "slices_disagree")),
        ("__MACOSX", 0.125, ("unsure", "slices_disagree")),
        ("s0.png", 0.125, ("unsure", "slices_disagree")),
        (".s0.png", 0.125, ("unsure", "slices_disagree")),
        ("s9.png", None, ("unsure", "slices_not_judged")),
        ("notes.txt", None, ("answer", None)),
        (".DS_Store", None, ("answer", None)),
    ],
)
def test_no_upload_is_lost_by_its_name_and_an_empty_one_stops_no_tumour(
    judge: service.Service, tmp_path: Path, name: str, brightness: float | None, said: tuple[str, str | None]
) -> None:
    for k in range(3):
        grey(0.625).save(tmp_path / f"{k}", "PNG")
    (tmp_path / "last").write_bytes(b"")
    if brightness is not None:
        grey(brightness).save(tmp_path / "last", "PNG")
    called = {"0": "s0.png", "1": "s1.png", "2": "s2.png", "last": name}
    answer = _judged(judge, [{"path": str(tmp_path / path), "orig_name": one} for path, one in called.items()], None)
    assert (answer.verdict, answer.reason) == said


def test_one_upload_beside_lost_ones_is_shown_without_a_class(judge: service.Service, tmp_path: Path) -> None:
    grey(0.625).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"")
    answer = _judged(judge, [{"path": str(tmp_path / name)} for name in ("a.png", "b.png")], None)
    assert (answer.verdict, answer.reason, len(answer.slices)) == ("unsure", "slices_not_judged", 1)
    for language in languages():
        t = texts(language)
        assert t["reasons"]["slices_not_judged"] in _plain(views.answer_html(judge, answer, t))
