"""The viewer of slices in a browser: what is seen, by mouse, wheel and keyboard; see `support.space_browser`."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

pytest.importorskip("gradio", reason="gradio is not installed: pip install -r space/requirements.txt")
pytest.importorskip("playwright", reason="playwright is not installed: pip install playwright")

from playwright.sync_api import Browser, Page, expect
from support.scans import zipped
from support.space_browser import PHONE, judge, opened, shot, slice_file, volume_file
from support.space_server import Server, grey, photograph

pytestmark = pytest.mark.slow
_MEAN = """canvas => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return data.reduce((sum, value, i) => sum + (i % 4 < 3 ? value : 0), 0) / (0.75 * data.length);
}"""
_COVER = """canvas => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return data.filter((value, i) => i % 4 === 3 && value === 255).length;
}"""
_FOCUSED = """() => {
  const here = document.activeElement;
  return (here.getAttribute("aria-label") ?? (here.closest("label") ?? here).textContent).trim();
}"""
_SHADES = (0.6, 0.62, 0.5, 0.4, 0.375, 0.41, 0.6, 0.64)  # of `volume_file`


def _at(page: Page, number: int) -> None:
    expect(page.locator(".bm-place")).to_contain_text(f"slice {number} of")
    expect(page.locator(".bm-slices tr[aria-current]")).to_have_count(1)
    expect(page.locator(".bm-slices tr[aria-current] th")).to_have_text(str(number))


def _shown(page: Page) -> float:
    return float(page.locator(".bm-stage canvas").first.evaluate(_MEAN)) / 255


def _volume(page: Page, folder: Path) -> None:
    judge(page, volume_file(folder))
    expect(page.locator(".bm-viewer-body")).to_be_visible()


def test_a_volume_opens_at_the_slice_with_most_of_a_tumour_and_its_peak_is_marked(page: Page, tmp_path: Path) -> None:
    _volume(page, tmp_path)
    _at(page, 5)
    expect(page.locator(".bm-place")).to_contain_text("meningioma")
    assert _shown(page) == pytest.approx(_SHADES[4], abs=0.02)
    assert page.locator(".bm-viewer-layer").evaluate(_COVER) > 5, "the cross"
    expect(page.locator(".bm-viewer-body > .bm-small").first).to_contain_text("not where a tumour ends")
    assert "top left" in (page.locator(".bm-stage canvas").first.get_attribute("aria-label") or "")
    shot(page, "viewer")


def test_wheel_arrow_keys_buttons_curve_and_rows_show_another_slice(page: Page, tmp_path: Path) -> None:
    _volume(page, tmp_path)
    page.locator(".bm-stage").hover()
    for _ in range(4):  # a touchpad
        page.mouse.wheel(0, 10)
    _at(page, 6)
    page.mouse.wheel(0, 100)
    _at(page, 7)
    page.mouse.wheel(0, -100)
    _at(page, 6)
    page.locator(".bm-stage").click()  # the keys go on from here
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    _at(page, 4)
    assert _shown(page) == pytest.approx(_SHADES[3], abs=0.02)
    page.get_by_role("button", name="Previous slice").click()
    _at(page, 3)
    box = page.locator(".bm-curve").bounding_box()
    assert box
    page.locator(".bm-curve").click(position={"x": box["width"] * 0.98, "y": box["height"] / 2})
    _at(page, 8)
    assert float(page.locator(".bm-now").get_attribute("x1") or 0) == pytest.approx(628)
    page.locator(".bm-slices tbody tr").first.click()
    _at(page, 1)
    expect(page.get_by_role("slider", name="Slice")).to_have_js_property("value", "1")


def test_all_of_the_viewer_is_reached_by_the_tab_key(page: Page, tmp_path: Path) -> None:
    _volume(page, tmp_path)
    page.locator(".bm-classify").focus()
    reached: list[str] = []
    for _ in range(20):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(_FOCUSED))
    first = reached.index("Previous slice")
    assert reached[first : first + 10] == [
        *("Previous slice", "Slice", "Next slice", "Show where it looked", "Strength of the evidence layer"),
        *("Contrast", "Brightness", "Invert", "Reset", "Download as CSV"),
    ]


def test_window_level_and_inversion_change_what_is_seen_and_are_taken_back(page: Page, tmp_path: Path) -> None:
    _volume(page, tmp_path)
    before = _shown(page)
    page.get_by_label("Invert").check()
    assert _shown(page) == pytest.approx(1 - before, abs=0.01)
    page.get_by_role("button", name="Reset").click()
    expect(page.get_by_label("Invert")).not_to_be_checked()
    page.get_by_role("slider", name="Brightness").fill("200")
    assert _shown(page) > before + 0.15
    page.locator(".bm-stage").hover()
    page.mouse.down()
    page.mouse.move(10, 10)
    page.mouse.up()
    expect(page.locator(".bm-tools output")).not_to_have_text("Window 255, level 128")
    page.get_by_role("button", name="Reset").click()
    expect(page.locator(".bm-tools output")).to_have_text("Window 255, level 128")
    assert _shown(page) == pytest.approx(before, abs=0.01)


def test_the_evidence_is_switched_off_and_stays_off(page: Page, tmp_path: Path) -> None:
    _volume(page, tmp_path)
    page.get_by_label("Show where it looked").uncheck()
    expect(page.locator(".bm-viewer-layer")).to_be_hidden()
    page.get_by_role("button", name="Next slice").click()
    expect(page.locator(".bm-viewer-layer")).to_be_hidden()


def test_unsure_slices_show_a_map_and_refused_and_healthy_ones_none(page: Page, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "mixed.zip", "w") as archive:
        for i, picture in enumerate((grey(0.25), grey(0.5), photograph(), grey(0.625))):
            picture.save(tmp_path / f"{i}.png")
            archive.write(tmp_path / f"{i}.png", f"{i}.png")
    judge(page, tmp_path / "mixed.zip")
    page.locator(".bm-slices tbody tr").first.click()
    said = page.locator(".bm-viewer-body > .bm-small").first
    for number, words in enumerate(("No class is named here", "No class is named here", "refused", "No map"), 1):
        _at(page, number)
        expect(said).to_contain_text(words)
        assert ("This is no all-clear" in said.inner_text()) == (number == 4)
        cover = page.locator(".bm-viewer-layer").evaluate(_COVER)
        assert (cover > 5) == (number <= 2), number
        page.get_by_role("button", name="Next slice").click()


def test_on_a_phone_picture_and_controls_are_seen_together_and_thumbnails_are_large(
    server: Server, browser: Browser, tmp_path: Path
) -> None:
    for page in opened(browser, server.url, PHONE, has_touch=True):
        _volume(page, tmp_path)
        page.locator(".bm-stage").scroll_into_view_if_needed()
        page.locator(".bm-viewer h3, .bm-stage").first.evaluate("stage => stage.scrollIntoView()")
        expect(page.get_by_role("slider", name="Slice")).to_be_in_viewport()
        for button in page.locator(".bm-viewer button").all():
            box = button.bounding_box()
            assert box and box["width"] >= 44 and box["height"] >= 44
        thumbnail = page.locator(".bm-slices img").first.bounding_box()
        assert thumbnail and thumbnail["width"] >= 96 and thumbnail["height"] >= 96
        assert page.locator(".bm-slices img").first.evaluate("picture => picture.naturalWidth") >= 64
        _at(page, 5)
        page.locator(".bm-slices tbody tr").nth(1).click()
        _at(page, 2)
        expect(page.locator(".bm-stage")).to_be_in_viewport(ratio=0.95)
        shot(page, "phone-viewer")


def test_the_verdict_is_heard_and_the_table_is_not(page: Page, tmp_path: Path) -> None:
    judge(page, slice_file(tmp_path, 0.625))
    expect(page.locator(".bm-spoken")).to_contain_text("None of the three tumours was found in this slice")
    expect(page.locator(".bm-spoken")).to_contain_text("This is no all-clear")
    _volume(page, tmp_path)
    expect(page.locator(".bm-spoken")).to_contain_text("A tumour was named in 3 of 8 slices")
    live = page.locator("[aria-live]:not([aria-live=off]), [role=status], [role=alert], output")
    for region in live.all():
        assert "slices.zip" not in (heard := region.inner_text()) or len(heard) < 60
        assert region.locator(".bm-slices, .bm-viewer, .bm-curve").count() == 0


def test_german_says_what_is_wrong_in_german_and_the_program_s_words_below(
    server: Server, browser: Browser, tmp_path: Path
) -> None:
    for page in opened(browser, f"{server.url}/de", PHONE):
        assert page.title() == "Hirn-MRT: was ein Klassifikator in einer Schicht sieht"
        (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
        judge(page, tmp_path / "broken.png")
        said = page.locator(".bm-answer [role=alert]")
        expect(said).to_contain_text("Die Datei ist beschädigt")
        expect(said.locator("[lang=en]")).to_contain_text("broken.png: ")
        shot(page, "phone-german-error")
        (tmp_path / "outer.zip").write_bytes(zipped({"inner.zip": zipped({"a": b"a"})}))
        judge(page, tmp_path / "outer.zip")
        expect(said).to_contain_text("Darin ist keine Schicht")
