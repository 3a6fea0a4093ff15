"""The page that runs the model in the browser: Debian's Chromium, driven by Playwright.

Needs what npm installs (`npm ci` in space_static/); AXE_PATH names axe.min.js, SPACE_SHOTS a folder for screenshots.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import sys
import threading
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("playwright", reason="playwright is not installed: pip install playwright")

from playwright.sync_api import Browser, BrowserContext, Page, expect
from pydicom.data import get_testdata_file
from support.space_browser import chromium
from support.space_server import ROOT, photograph

from benchmarks.static_parity import answers_in, differences
from brain_mri.errors import ConfigError
from brain_mri.hub.static_space import _SOURCE, stage_static_space
from brain_mri.inference import BrainMRIClassifier
from brain_mri.io.volumes import read_slices
from brain_mri.labels import LABELS
from brain_mri.phantom.drawing import draw_phantom

sys.path.insert(0, str(ROOT / "space_static"))
from serve import listening

pytestmark = pytest.mark.slow
_RELEASE = ROOT / "release"
_PATIENCE = 60_000  # milliseconds
expect.set_options(timeout=_PATIENCE)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if not (_SOURCE / "node_modules").is_dir():
        pytest.skip("the page's packages are not installed: npm ci in space_static/")
    folder = tmp_path_factory.mktemp("static") / "page"
    stage_static_space(folder, _RELEASE)
    server = listening(folder, 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 390, "height": 800}, locale="en-GB")
    context.set_default_timeout(_PATIENCE)
    yield context
    context.close()


@pytest.fixture(scope="module")
def page(context: BrowserContext, url: str) -> Page:
    """The page of a phone, loaded."""
    page = context.new_page()
    page.goto(url)
    page.wait_for_selector("body[data-ready]")
    return page


@pytest.fixture(scope="module")
def classifier() -> BrainMRIClassifier:
    return BrainMRIClassifier.from_pretrained(_RELEASE)


def _judge(page: Page, *given: Path) -> None:
    page.set_input_files("#files", list(given))
    expect(page.locator("#answers .card[data-verdict]")).to_have_count(len(given) + (len(given) > 1))


def _saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def _head() -> Path:
    return Path(str(files("nibabel"))) / "tests" / "data" / "example4d.nii.gz"


def _pictures() -> list[bytes]:
    """Two hundred slices: phantoms of many sizes, kinds of file and modes, a real head, and what is no brain."""
    found = []
    for seed in range(40):
        phantom = draw_phantom(LABELS[seed % 4], seed, 64 + 13 * seed).image
        found += [
            _saved(phantom, "PNG"),
            _saved(phantom, "JPEG", quality=80),
            _saved(phantom.convert("RGB"), "WEBP", lossless=True),
        ]
        found.append(_saved(phantom.convert("RGB").resize((300, 150 + seed)), "PNG"))
    found += [_saved(picture, "PNG") for picture in read_slices(_head()).images]
    rng = np.random.default_rng(0)
    found += [_saved(Image.fromarray(rng.integers(0, 256, (50 + i, 60, 3), np.uint8)), "PNG") for i in range(16)]
    return found


def _agree(pictures: list[bytes], page: Page, classifier: BrainMRIClassifier) -> int:
    """The same pixels, and the same answers but for the rounding of int8 kernels, which differ between processors.

    Returns the number of slices whose two sides both compared.
    """
    answers = answers_in(page, pictures)
    expected = [classifier.predict(picture) for picture in pictures]
    pairs = list(zip(answers, expected, strict=True))
    off = differences(answers, expected)
    assert np.median(off) < 1e-3 and off.max() < 0.05
    distances = np.array([[one["guardScore"], known.guard_score] for one, known in pairs])
    assert distances[:, 0] == pytest.approx(distances[:, 1], rel=0.03)
    unlike = [(one.get("asymmetry"), known.asymmetry) for one, known in pairs]
    assert sum((here is None) != (there is None) for here, there in unlike) <= len(pairs) / 50
    both = [(here, there) for here, there in unlike if here is not None and there is not None]
    assert [here for here, _ in both] == pytest.approx([there for _, there in both], rel=0.1)
    other = [one for one, known in pairs if (one["verdict"], one["reason"]) != (known.verdict, known.reason)]
    assert len(other) <= len(pairs) / 50, "at a threshold a last digit decides"
    return len(both)


def test_two_hundred_slices_get_the_answers_of_python(page: Page, classifier: BrainMRIClassifier) -> None:
    pictures = _pictures()
    assert len(pictures) >= 200
    assert _agree(pictures, page, classifier) > 0


def test_real_slices_get_the_answers_of_python(page: Page, classifier: BrainMRIClassifier) -> None:
    data = os.environ.get("BRAIN_MRI_DATA")
    if not data:
        pytest.skip("BRAIN_MRI_DATA is not set: it names the folder of real images")
    known = sorted(Path(data, "brain-tumor-mri", "Testing").glob("*/*.jpg"))
    assert _agree([path.read_bytes() for path in known[:: len(known) // 100]], page, classifier) > 10


@pytest.mark.parametrize("name", ["example4d.nii.gz", "standard.nii.gz"])
def test_a_volume_gets_the_slices_and_the_verdict_of_python(
    page: Page, classifier: BrainMRIClassifier, name: str
) -> None:
    volume = _head().with_name(name)
    (answer,) = answers_in(page, [volume.read_bytes()])
    expected = classifier.predict_volume(volume)
    assert (answer["verdict"], answer["reason"]) == (expected.verdict, expected.reason)
    assert [one["reason"] for one in answer["slices"]] == [one.reason for one in expected.slices]
    assert answer["probabilities"] == pytest.approx(expected.probabilities, abs=1e-3)


def test_a_newly_chosen_file_ends_the_answers_to_the_one_before(page: Page, tmp_path: Path) -> None:
    photograph().save(tmp_path / "photo.png")
    page.set_input_files("#files", _head())
    page.set_input_files("#files", tmp_path / "photo.png")
    expect(page.locator("#answers .card")).to_contain_text("photo.png")
    page.wait_for_function("!document.getElementById('state').textContent")
    expect(page.locator("#answers .card")).to_have_count(1)


def test_several_pictures_are_counted_and_judged_as_one_scan_if_the_visitor_says_so(
    page: Page, classifier: BrainMRIClassifier, tmp_path: Path
) -> None:
    examples = sorted((ROOT / "space" / "examples").glob("*.png"))
    _judge(page, *examples)
    named = [one.label for one in map(classifier.predict, examples)]
    counts = f"a tumour named in {sum(map(bool, named))}, none found in 0, no class named for {named.count(None)}"
    expect(page.locator("#answers h2").first).to_contain_text(counts)
    page.check(".together input")
    expect(page.locator("#answers .card[data-verdict]:visible")).to_have_count(2)
    expected = classifier.summarize([classifier.predict(path) for path in examples])
    expect(page.locator("#answers .card").last).to_have_attribute("data-verdict", expected.verdict)
    page.uncheck(".together input")
    expect(page.locator("#answers .card[data-verdict]:visible")).to_have_count(1 + len(examples))


def test_a_ct_among_several_files_counts_as_one_without_a_class(page: Page, tmp_path: Path) -> None:
    photograph().save(tmp_path / "photo.png")
    _judge(page, Path(str(get_testdata_file("CT_small.dcm", download=False))), tmp_path / "photo.png")
    expect(page.locator("#answers h2").first).to_contain_text("2 pictures")
    expect(page.locator("#answers h2").first).to_contain_text("no class named for 2")


def test_an_example_is_answered_under_what_it_shows(page: Page) -> None:
    page.click(".example >> nth=0")
    expect(page.locator("#answers .truth")).to_contain_text("glioma")
    expect(page.locator("#answers a[target=_blank]")).to_have_attribute("href", re.compile("cancer.gov.*/glioma"))
    expect(page.locator("#answers .card")).to_have_count(1)


def test_a_slice_as_dicom_is_read_and_a_ct_is_refused_by_its_header(page: Page, classifier: BrainMRIClassifier) -> None:
    mr, ct = (Path(str(get_testdata_file(name, download=False))) for name in ("MR_small.dcm", "CT_small.dcm"))
    _agree([mr.read_bytes()], page, classifier)
    _judge(page, ct)
    expect(page.locator("#answers .card")).to_have_attribute("data-verdict", "refused")
    expect(page.locator("#answers")).to_contain_text("A CT picture (Modality CT)")
    expect(page.locator("#answers")).to_contain_text("nothing about health")
    expect(page.locator("#answers")).to_contain_text("ask a doctor")


@pytest.mark.parametrize("kind", ["noise", "film", "deep"])
def test_what_a_browser_would_misread_is_no_answer(page: Page, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "given.png"
    if kind == "film":
        frames = [Image.new("L", (64, 64), shade) for shade in (10, 200)]
        frames[0].save(path, save_all=True, append_images=frames[1:])
    elif kind == "deep":
        Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64)).save(path)
    else:
        path.write_bytes(np.random.default_rng(0).bytes(5000))
    _judge(page, path)
    expect(page.locator("#answers .card")).to_have_attribute("data-verdict", "error")


def test_nothing_leaves_the_page_while_it_answers(page: Page, tmp_path: Path) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for i in range(10):
        photograph().save(tmp_path / f"{i}.png")
        _judge(page, tmp_path / f"{i}.png")
    assert [one for one in asked if not one.startswith("blob:")] == []


def test_without_a_network_a_second_visit_answers(
    context: BrowserContext, page: Page, url: str, tmp_path: Path
) -> None:
    page.evaluate("navigator.serviceWorker.ready.then(() => null)")
    context.set_offline(True)
    try:
        second = context.new_page()
        second.goto(url)
        second.wait_for_selector("body[data-ready]")
        photograph().save(tmp_path / "photo.png")
        _judge(second, tmp_path / "photo.png")
        expect(second.locator("#answers .card")).to_have_attribute("data-verdict", "refused")
    finally:
        context.set_offline(False)


def test_on_a_phone_nothing_is_wider_than_the_screen_and_german_is_complete(
    context: BrowserContext, url: str, tmp_path: Path
) -> None:
    page = context.new_page()
    page.goto(f"{url}?lang=de")
    page.wait_for_selector("body[data-ready]")
    photograph().save(tmp_path / "photo.png")
    _judge(page, tmp_path / "photo.png")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert "undefined" not in page.content() and "bleibt auf diesem Gerät" in page.content()
    if folder := os.environ.get("SPACE_SHOTS"):
        page.screenshot(path=Path(folder, "static_phone.png"), full_page=True)


def test_a_volume_is_scrolled_through_in_the_viewer_of_the_other_page(page: Page) -> None:
    _judge(page, _head())
    expect(page.locator(".bm-viewer-body")).to_have_count(1)
    slider = page.get_by_role("slider", name="Slice")
    slider.focus()
    page.keyboard.press("End")
    expect(page.locator(".bm-place")).to_contain_text("slice 24 of 24")
    page.locator(".bm-stage").hover()
    page.mouse.wheel(0, -100)
    expect(page.locator(".bm-place")).to_contain_text("slice 23 of 24")


def test_an_unsure_slice_shows_a_map_and_names_no_class(page: Page, classifier: BrainMRIClassifier) -> None:
    unsure = [p for p in (ROOT / "space" / "examples").glob("*.png") if classifier.predict(p).verdict == "unsure"]
    _judge(page, unsure[0])
    expect(page.locator("#answers .layers canvas")).to_have_count(2)
    expect(page.locator("#answers figcaption").last).to_contain_text("No class is named here")
    said = page.locator("#answers").inner_text()
    assert not any(word in said for word in ("glioma", "meningioma", "pituitary", "none of the three"))


def test_axe_finds_nothing(page: Page, tmp_path: Path) -> None:
    axe = os.environ.get("AXE_PATH")
    if not axe:
        pytest.skip("AXE_PATH is not set: it names axe.min.js (npm install axe-core)")
    photograph().save(tmp_path / "photo.png")
    page.evaluate(Path(axe).read_text(encoding="utf-8"))
    examples = sorted((ROOT / "space" / "examples").glob("*.png"))
    for given in ([tmp_path / "photo.png"], [_head()], examples):
        _judge(page, *given)
        assert page.evaluate("axe.run()")["violations"] == []


@pytest.mark.parametrize("healthy", ["healthy", "rien"])
def test_a_model_whose_healthy_class_the_page_does_not_know_gets_no_page(tmp_path: Path, healthy: str) -> None:
    shutil.copytree(_RELEASE, tmp_path / "model")
    record = tmp_path / "model" / "run.json"
    record.write_text(record.read_text(encoding="utf-8").replace("no_tumor", healthy), encoding="utf-8")
    with pytest.raises(ConfigError, match=healthy):
        stage_static_space(tmp_path / "page", tmp_path / "model")
    assert not (tmp_path / "page").exists()


def test_a_model_without_a_guard_gets_no_page(tmp_path: Path) -> None:
    shutil.copytree(_RELEASE, tmp_path / "model")
    (tmp_path / "model" / "guard.json").unlink()
    with pytest.raises(ConfigError, match="guard"):
        stage_static_space(tmp_path / "page", tmp_path / "model")
    assert not (tmp_path / "page").exists()
