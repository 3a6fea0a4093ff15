"""The page as people meet it: in Debian's Chromium, with axe-core as a judge of accessibility; see `space_browser`."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("gradio", reason="gradio is not installed: pip install -r space/requirements.txt")
pytest.importorskip("playwright", reason="playwright is not installed: pip install playwright")

from playwright.sync_api import Browser, Page, expect
from support.scans import placed, zipped
from support.space_browser import DESKTOP, PHONE, findings, judge, opened, shot, slice_file, volume_file
from support.space_server import Server, grey, photograph

pytestmark = pytest.mark.slow


def test_a_slice_gets_label_bars_and_evidence_whose_strength_needs_no_server(page: Page, tmp_path: Path) -> None:
    expect(page.locator(".bm-notice")).to_be_visible()
    above, button = page.locator(".bm-notice").bounding_box(), page.locator(".bm-classify").bounding_box()
    assert above and button and above["y"] + above["height"] <= button["y"], "the notice stands above the button"
    judge(page, slice_file(tmp_path))
    expect(page.locator(".bm-answer h2")).to_have_text("The model's answer: meningioma")
    expect(page.locator(".bm-bars tr")).to_have_count(4)
    expect(page.locator(".bm-bars tr").first).to_contain_text("meningioma")
    assert "meningioma" in (page.locator(".bm-layer").get_attribute("alt") or "")
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url))
    page.locator(".bm-opacity input").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    strength = page.locator(".bm-layer").evaluate("layer => Number(getComputedStyle(layer).opacity)")
    assert strength == pytest.approx(0.6) and not sent
    with page.expect_download() as download:
        page.click(".bm-download")
    assert download.value.suggested_filename == "brain-mri-answer.png"
    sheet = Image.open(download.value.path()).convert("L")
    assert sheet.width == 2 * sheet.crop((0, 0, 640, 640)).width
    assert sheet.crop((0, 660, sheet.width, sheet.height)).getextrema()[1] == 255 and sheet.getextrema()[0] < 60, (
        "letters on paper"
    )
    shot(page, "answer")


def test_a_photograph_a_broken_file_and_nothing_at_all_are_answered_in_sentences(page: Page, tmp_path: Path) -> None:
    photograph().save(tmp_path / "photo.jpg")
    judge(page, tmp_path / "photo.jpg")
    expect(page.locator(".bm-answer h2")).to_have_text("No class is named: this does not look like a brain MRI")
    expect(page.locator(".bm-bars")).to_have_count(0)
    shot(page, "refusal")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    judge(page, tmp_path / "broken.png")
    expect(page.locator(".bm-answer [role=alert]")).to_contain_text("broken.png: ")
    page.click(".bm-clear")
    page.click(".bm-classify")
    expect(page.locator(".bm-answer [role=alert]")).to_contain_text("no file was given")
    assert "Traceback" not in page.content()


def test_a_volume_gets_curve_table_and_csv(page: Page, tmp_path: Path) -> None:
    judge(page, volume_file(tmp_path))
    expect(page.locator(".bm-curve")).to_be_visible()
    expect(page.locator(".bm-slices tbody tr")).to_have_count(8)
    assert "meningioma is highest in slice 5" in (page.locator(".bm-curve").get_attribute("aria-label") or "")
    with page.expect_download() as download:
        page.click("text=Download as CSV")
    rows = Path(download.value.path()).read_text().splitlines()
    assert len(rows) == 9 and all("not a diagnosis" in row for row in rows[1:])
    shot(page, "volume")


def test_cancel_ends_the_request_and_the_answer_to_another_file_is_gone(page: Page, tmp_path: Path) -> None:
    judge(page, slice_file(tmp_path))
    expect(page.locator(".bm-answer h2")).to_have_text("The model's answer: meningioma")
    expect(page.locator(".bm-cancel")).to_be_hidden()
    with zipfile.ZipFile(tmp_path / "long.zip", "w") as archive:
        for number in range(900):
            archive.write(tmp_path / "slice.png", f"{number}.png")
    ended: list[str] = []
    page.on("requestfailed", lambda request: ended.append(request.url))
    judge(page, tmp_path / "long.zip")
    expect(page.locator(".bm-running")).to_contain_text("of 900")
    shot(page, "running")
    page.click(".bm-cancel")
    expect(page.locator(".bm-cancel")).to_be_hidden()
    expect(page.locator(".bm-answer .bm-waiting")).to_be_visible()
    expect(page.locator(".bm-answer h2")).to_have_count(0)
    assert [url for url in ended if "/answer" in url]


def test_everything_can_be_done_by_keyboard_alone(page: Page) -> None:
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.dataset.name") == "example_1.png":
            break
    assert page.evaluate("document.activeElement.dataset.name") == "example_1.png"
    page.keyboard.press("Enter")
    expect(page.locator(".bm-chosen li")).to_have_text(["example_1.png"])
    page.locator(".bm-drop input").focus()
    for _ in range(5):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.classList.contains('bm-classify')"):
            break
    assert page.evaluate("document.activeElement.classList.contains('bm-classify')")
    page.keyboard.press("Enter")
    expect(page.locator(".bm-answer h2")).to_contain_text("answer")


def test_a_pasted_and_a_dropped_picture_are_taken(page: Page) -> None:
    for kind, holder in (("paste", "clipboardData"), ("drop", "dataTransfer")):
        page.evaluate(
            """([kind, holder]) => {
                const data = new DataTransfer();
                data.items.add(new File([new Uint8Array([1])], `${kind}ed.png`, {type: "image/png"}));
                const event = kind === "paste"
                    ? new ClipboardEvent(kind, {[holder]: data, bubbles: true})
                    : new DragEvent(kind, {[holder]: data, bubbles: true, cancelable: true});
                document.body.dispatchEvent(event);
            }""",
            [kind, holder],
        )
        expect(page.locator(".bm-chosen li")).to_have_text([f"{kind}ed.png"])
        assert page.locator(".bm-chosen li").count() == 1  # the later one took the earlier one's place


@pytest.mark.parametrize(("scheme", "size"), [("light", DESKTOP), ("dark", DESKTOP), ("light", PHONE), ("dark", PHONE)])
def test_axe_finds_nothing_serious(
    server: Server, browser: Browser, tmp_path: Path, scheme: Any, size: dict[str, int]
) -> None:
    axe = os.environ.get("AXE_PATH")
    if not axe:
        pytest.skip("AXE_PATH is not set: it names axe.min.js (npm install axe-core)")
    for page in opened(browser, server.url, size, color_scheme=scheme):
        page.add_script_tag(path=axe)
        photograph().save(tmp_path / "photo.jpg")
        states = [
            (),
            (slice_file(tmp_path),),
            (slice_file(tmp_path, 0.25),),
            (tmp_path / "photo.jpg",),
            (slice_file(tmp_path), tmp_path / "photo.jpg"),
            (volume_file(tmp_path),),
        ]
        for i, files in enumerate(states):
            if files:
                judge(page, *files)
                titles = 1 if len(files) == 1 else 1 + len(files)
                page.wait_for_function("n => document.querySelectorAll('.bm-answer h2').length === n", arg=titles)
                page.wait_for_timeout(1500)
            assert not findings(page), f"state {i}, {scheme}"
        expect(page.locator(".bm-viewer-body")).to_have_count(1)
        for tab in ("Quiz", "About", "API"):
            page.get_by_role("tab", name=tab).click()
            page.wait_for_timeout(1500)
            assert not findings(page), f"{tab}, {scheme}"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_nothing_is_cut_off(server: Server, browser: Browser, tmp_path: Path, scheme: Any) -> None:
    for page in opened(browser, server.url, PHONE, color_scheme=scheme, has_touch=True):
        shot(page, f"phone-{scheme}-start")
        for name, path in (("answer", slice_file(tmp_path)), ("volume", volume_file(tmp_path))):
            judge(page, path)
            page.wait_for_selector(".bm-curve" if name == "volume" else ".bm-layer")
            wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0, "the page scrolls sideways"
            expect(page.locator(".bm-answer h2")).to_be_in_viewport()
            expect(page.locator(".bm-answer .bm-notice-small")).to_be_in_viewport()
            shot(page, f"phone-{scheme}-{name}")


def test_german_is_a_page_of_its_own(server: Server, browser: Browser, tmp_path: Path) -> None:
    for page in opened(browser, server.url, DESKTOP):
        assert page.evaluate("document.documentElement.lang") == "en"
        page.click(".bm-header a[hreflang=de]")
        expect(page.locator(".bm-classify")).to_have_text("Einordnen")
        assert page.evaluate("document.documentElement.lang") == "de"
        judge(page, slice_file(tmp_path))
        expect(page.locator(".bm-answer h2")).to_have_text("Die Antwort des Modells: Meningeom")
        shot(page, "german")


def test_the_examples_say_whose_they_are_and_one_click_answers(page: Page) -> None:
    for said in ("Jun Cheng", "figshare.1512427", "CC BY 4.0"):
        expect(page.locator(".bm-examples")).to_contain_text(said)
    expect(page.locator(".bm-example")).to_have_count(6)
    page.locator(".bm-example").last.click()
    expect(page.locator(".bm-answer h2")).to_be_visible()


def test_a_new_file_takes_the_old_answer_away(page: Page, tmp_path: Path) -> None:
    judge(page, slice_file(tmp_path))
    expect(page.locator(".bm-answer h2")).to_be_visible()
    page.set_input_files(".bm-drop input", [slice_file(tmp_path)])
    expect(page.locator(".bm-answer h2")).to_be_hidden()


def test_several_pictures_are_several_answers_unless_they_are_said_to_be_one_scan(page: Page, tmp_path: Path) -> None:
    for i, shade in enumerate((0.375, 0.625)):
        grey(shade, size=192).save(tmp_path / f"{i}.png")
    judge(page, tmp_path / "0.png", tmp_path / "1.png")
    expect(page.locator(".bm-answer h2")).to_have_text(
        [
            "2 pictures, each for itself: a tumour named in 1, none found in 1, no class named for 0",
            "The model's answer: meningioma",
            "None of the three tumours was found in this slice",
        ]
    )
    page.check(".bm-together input")
    page.click(".bm-classify")
    expect(page.locator(".bm-answer h2")).to_have_count(1)
    expect(page.locator(".bm-slices tbody tr")).to_have_count(2)


def test_a_reader_names_and_marks_before_the_model_says_anything(page: Page) -> None:
    page.get_by_role("tab", name="Quiz").click()
    expect(page.locator(".bm-quiz-result")).to_be_empty()
    page.click(".bm-quiz-check")
    expect(page.locator(".bm-quiz-hint")).to_have_text("Choose an answer first.")
    page.click(".bm-quiz-place", position={"x": 40, "y": 40})
    expect(page.locator(".bm-quiz-mark")).to_have_count(1)
    before = page.locator(".bm-quiz-mark").bounding_box()
    page.keyboard.press("ArrowRight")
    after = page.locator(".bm-quiz-mark").bounding_box()
    assert before and after and after["x"] > before["x"] and after["y"] == before["y"]
    page.check(".bm-quiz input[value=glioma]")
    page.click(".bm-quiz-check")
    expect(page.locator(".bm-quiz-box")).to_have_count(1)
    expect(page.locator(".bm-quiz-result h2")).to_have_count(1)
    expect(page.locator(".bm-quiz-result p").first).to_contain_text("glioma")
    expect(page.locator(".bm-spoken")).to_contain_text("Right: glioma.")
    expect(page.locator(".bm-spoken")).to_contain_text("The model ")
    page.click(".bm-quiz-next")
    expect(page.locator(".bm-quiz-result")).to_be_empty()
    expect(page.locator(".bm-quiz-count")).to_have_text("Picture 2 of 5")


def test_an_example_is_answered_under_what_it_shows(page: Page) -> None:
    page.click(".bm-example[data-name='example_1.png']")
    expect(page.locator(".bm-answer h2")).to_be_visible()
    expect(page.locator(".bm-answer .bm-truth")).to_contain_text("glioma")


@pytest.mark.parametrize("query", ["", "?__theme=light"])  # the Hub's frame asks with one
def test_a_browser_in_german_gets_the_german_page_and_may_go_back(server: Server, browser: Browser, query: str) -> None:
    for page in opened(browser, f"{server.url.rstrip('/')}/{query}", DESKTOP, locale="de-AT"):
        expect(page.locator("html")).to_have_attribute("lang", "de")
        page.click("text=English")
        expect(page.locator("html")).to_have_attribute("lang", "en")


def test_another_series_of_an_examination_is_judged_at_a_press(page: Page, tmp_path: Path) -> None:
    files = {f"{uid}{k}": placed(k, SeriesInstanceUID=f"1.{uid}", SeriesDescription=told, SliceThickness=5)
             for uid, told in (("1", "t2 tra"), ("2", "t1 km")) for k in range(3)}  # fmt: skip
    (tmp_path / "study.zip").write_bytes(zipped(files))
    judge(page, tmp_path / "study.zip")
    expect(page.locator(".bm-series strong")).to_contain_text("2: t1 km")
    shot(page, "series")
    page.click(".bm-series button")
    expect(page.locator(".bm-series strong")).to_contain_text("1: t2 tra")
    page.click(".bm-classify")  # anew by the rule
    expect(page.locator(".bm-series strong")).to_contain_text("2: t1 km")
