"""Pictures that a browser decodes: damaged ones and JPEG within DICOM are read, or refused, as the package does."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("playwright", reason="playwright is not installed: pip install playwright")

from playwright.sync_api import Page
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit
from support.space_browser import chromium
from support.space_server import ROOT
from support.static_reading import agree, in_browser, staged

from brain_mri.phantom.drawing import draw_phantom

sys.path.insert(0, str(ROOT / "space_static"))
from serve import listening

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = staged(tmp_path_factory.mktemp("static") / "page")
    server = listening(folder, 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with chromium() as browser:
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{server.server_address[1]}/")
        yield page
    server.shutdown()


def _saved(kind: str, mode: str = "L", **options: Any) -> bytes:
    file = io.BytesIO()
    draw_phantom("glioma", 1, 128).image.convert(mode).save(file, kind, **options)
    return file.getvalue()


_KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "PNG": ("PNG", {}),
    "PNG, with a profile": ("PNG", {"icc_profile": b"x" * 6000}),
    "JPEG": ("JPEG", {"quality": 90}),
    "progressive JPEG": ("JPEG", {"quality": 90, "progressive": True}),
    "WebP": ("WEBP", {"lossless": True}),
    "WebP, with a profile": ("WEBP", {"lossless": True, "icc_profile": b"x" * 6000}),
}


@pytest.mark.parametrize("kind", _KINDS)
def test_a_whole_picture_is_read_and_half_of_it_is_not(page: Page, kind: str) -> None:
    name, options = _KINDS[kind]
    content = _saved(name, **options)
    assert not agree(page, content)
    assert not agree(page, content + b"behind the end")
    for end in (len(content) // 2, -40):
        assert agree(page, content[:end]) == "broken"


def test_a_jpeg_without_its_end_or_of_too_many_scans_is_refused(page: Page) -> None:
    content = _saved("JPEG")
    assert agree(page, content[:-2]) == "broken"
    scan = content.index(b"\xff\xda")
    assert agree(page, content[:-2] + content[scan:-2] * 101 + content[-2:]) == "broken"


def _dicom(frame: bytes | None = None, **elements: Any) -> bytes:
    """A DICOM file of a JPEG of 128 x 128 pixels."""
    dataset = dcmread(str(get_testdata_file("MR_small.dcm", download=False)))
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    told = {"Rows": 128, "Columns": 128, "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0}
    for keyword, value in {**told, **elements}.items():
        setattr(dataset, keyword, value)
    dataset.PixelData = encapsulate([frame or _saved("JPEG")])
    dataset["PixelData"].VR = "OB"
    file = io.BytesIO()
    dataset.save_as(file)
    return file.getvalue()


@pytest.mark.parametrize(
    "elements", [{}, {"WindowCenter": "100", "WindowWidth": "90"}, {"PhotometricInterpretation": "MONOCHROME1"}]
)
def test_a_jpeg_within_dicom_is_shown_as_the_package_does(page: Page, elements: dict[str, Any]) -> None:
    assert not agree(page, _dicom(**elements))


_REFUSED: dict[str, tuple[str, bytes]] = {
    "of another size": ("broken", _dicom(Rows=64)),
    "cut off": ("broken", _dicom(_saved("JPEG")[:-200])),
    "in colour": ("dicom_kind", _dicom(_saved("JPEG", "RGB"))),
    "of 12 bits": ("dicom_kind", _dicom(BitsAllocated=16, BitsStored=12, HighBit=11)),
    "of a palette": ("dicom_compressed", _dicom(PhotometricInterpretation="PALETTE COLOR")),
    "of no magnitude": ("dicom_derived", _dicom(ImageType=["DERIVED", "PRIMARY", "ADC"])),
}


@pytest.mark.parametrize("name", _REFUSED)
def test_a_jpeg_within_dicom_that_the_package_refuses_is_refused(page: Page, name: str) -> None:
    code, content = _REFUSED[name]
    assert agree(page, content) == code


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_a_film_behind_a_long_profile_is_not_shown(page: Page, kind: str) -> None:
    frames = [Image.new("RGB", (48, 48), (shade,) * 3) for shade in (10, 90, 200)]
    file = io.BytesIO()
    profile = np.random.default_rng(0).bytes(6000)
    frames[0].save(file, kind, save_all=True, append_images=frames[1:], icc_profile=profile)
    assert in_browser(page, file.getvalue()) == {"error": "several"}
