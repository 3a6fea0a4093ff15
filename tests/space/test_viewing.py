"""What comes with an answer for the viewer, and what the page says in another language than the package's."""

from __future__ import annotations

import base64
import json
import re
import sys
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

pytest.importorskip("gradio", reason="gradio is not installed: pip install -r space/requirements.txt")
pytest.importorskip("mcp", reason="mcp is not installed: pip install -r space/requirements.txt")

from support.space_server import SPACE, grey, photograph

from brain_mri.errors import BrainMRIError, ImageError, ImageFault
from brain_mri.inference.overlay import LEVEL
from brain_mri.io.slices import Series
from brain_mri.labels import LABELS

sys.path.insert(0, str(SPACE))

from page import service, views
from page.texts import languages, texts


@pytest.fixture
def judge(model: Path, tmp_path: Path) -> service.Service:
    return service.Service(str(model), tmp_path, 180)


def _viewer(html: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(re.search("class=\"bm-viewer\" data-slices='([^']*)'", html)[1])
    return found


def test_where_no_slice_is_answered_the_viewer_names_no_class_either(judge: service.Service) -> None:
    unsure, refused = judge.classifier.predict(grey(0.25)), judge.classifier.predict(photograph())
    one, volume = unsure, judge.classifier.summarize([unsure, unsure, refused])
    for language in languages():
        t = texts(language)
        for html in (views.answer_html(judge, one, t), views.answer_html(judge, volume, t)):
            assert not any(t.label(label) in unescape(html) or label in html for label in LABELS)
        assert 'class="bm-layer"' in views.answer_html(judge, one, t) and t(
            "evidence_unsure", level=t.percent(LEVEL, 0)
        )


def test_an_unsure_slice_shows_where_a_tumour_is_likeliest_and_never_what_speaks_for_health(
    judge: service.Service,
) -> None:
    sure = judge.classifier.predict(grey(0.375))
    for likeliest, others in (("no_tumor", "meningioma"), ("meningioma", "no_tumor")):
        shares = dict.fromkeys(LABELS, 0.01) | {likeliest: 0.6, others: 0.38}
        unsure = replace(
            sure, verdict="unsure", reason="below_threshold", probabilities=shares, levels={"meningioma": 0.9}
        )
        html = views.answer_html(judge, judge.classifier.summarize([unsure, unsure]), texts())
        map_ = _viewer(html)["slices"][0]["map"]
        values = np.frombuffer(base64.b64decode(map_["values"]), "<i2").reshape(map_["height"], map_["width"])
        expected = sure.evidence["meningioma"]
        assert values / np.abs(values).max() == pytest.approx(expected / np.abs(expected).max(), abs=1e-3)
        assert map_["level"] == LEVEL, "each class has a level of its own, which would tell it"


def test_a_volume_opens_where_a_tumour_is_most_probable_sure_or_not(judge: service.Service) -> None:
    shades = (grey(0.625), grey(0.5), grey(0.625), photograph())
    slices = [judge.classifier.predict(shade) for shade in shades]
    html = views.answer_html(judge, judge.classifier.summarize(slices), texts())
    assert _viewer(html)["start"] == 1 and not slices[1].is_answered
    assert "sure of it or not" in _viewer(html)["texts"]["help"]
    unknown = judge.classifier.summarize([slices[3]] * 5)
    found = _viewer(views.answer_html(judge, unknown, texts()))
    assert found["start"] == 2 and "sure of it or not" not in found["texts"]["help"]


@pytest.mark.parametrize("count", [5, 12])
def test_of_several_pictures_it_is_first_said_how_many_were_called_what(judge: service.Service, count: int) -> None:
    shades = [0.375, 0.25, *[0.625] * (count - 2)]  # a tumour, an unsure one, and healthy ones
    html = views.answers_html(judge, [judge.classifier.predict(grey(shade)) for shade in shades[::-1]], texts())
    counts = texts()("apart_title", count=count, tumours=1, healthy=count - 2, unnamed=1)
    assert re.search("<h2>(.*?)</h2>", html)[1] == counts
    assert count == 5 or _viewer(html)["start"] == count - 1, "the one with the tumour is seen first"


def test_a_thousand_slices_come_in_a_few_megabytes(judge: service.Service) -> None:
    slice_ = judge.classifier.predict(grey(0.375, np.random.default_rng(0), size=512))
    noisy = replace(slice_, image=grey(0.375, size=512))
    html = views.answer_html(judge, judge.classifier.summarize([noisy] * 1000), texts())
    assert len(html) < 8e6


def test_every_kind_of_fault_is_said_in_every_language(judge: service.Service) -> None:
    for language in languages():
        assert set(texts(language)["faults"]) == {*get_args(ImageFault), "other"}
    german = texts("de")
    for error in (
        *(ImageError("a.png: broken.", fault) for fault in get_args(ImageFault)),
        BrainMRIError("a.png: no."),
    ):
        html = unescape(views.error_html(judge, error, german))
        assert german["faults"][getattr(error, "fault", "other")] in html
        assert f'<span lang="en">{error}</span>' in html, "the package's own words"
        assert unescape(views.error_html(judge, error, texts())).count(str(error)) == 1
        assert views.error_text(judge, error, texts()) == str(error), "what programs get"


def test_notes_of_the_package_are_marked_as_english(judge: service.Service) -> None:
    answer = replace(judge.classifier.predict(grey(0.375)), notes=("of 3 volumes in the file the first is read",))
    for said in (answer, judge.classifier.summarize([answer, answer], answer.notes)):
        assert '<span lang="en">of 3 volumes in the file the first is read.</span>' in views.answer_html(
            judge, said, texts("de")
        )


@pytest.mark.parametrize(
    ("series", "told"),
    [
        (Series(2, "t1", "T1, contrast-enhanced", "axial", 1), "2: t1 (T1, mit Kontrastmittel, axial, 1 Schicht)"),
        (Series(1, "", "", "coronal", 20), "1: Sequenz nicht bekannt, koronar, 20 Schichten"),
        (Series(3, "", "sequence not known", "", 3), "3: Sequenz nicht bekannt, 3 Schichten"),
    ],
)
def test_a_series_is_listed_in_the_page_s_language(series: Series, told: str) -> None:
    assert views.series_line(series, texts()) == str(series)
    assert views.series_line(series, texts("de")) == told
