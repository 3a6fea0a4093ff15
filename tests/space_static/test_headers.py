"""What the package refuses by a file's header, the page in the browser refuses too; what both read are the same pixels.

The page's modules run in node, which decodes no pictures: how a browser does is asked in `test_static_page`.
"""

from __future__ import annotations

import base64
import io
import json
import shutil
import struct
import subprocess
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from nibabel.testing import data_path
from PIL import Image
from pydicom import Dataset, Sequence, dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import ImplicitVRLittleEndian

from brain_mri.errors import ImageError
from brain_mri.hub.static_space import _SOURCE, stage_static_space
from brain_mri.io.frames import GE_KIND, PHILIPS_KIND
from brain_mri.io.nifti import NO_SCAN
from brain_mri.io.volumes import read_slices

_ROOT = Path(__file__).resolve().parents[2]
_READ = """
import { readFileSync } from 'node:fs';
globalThis.createImageBitmap = async () => { throw new Error('node decodes no pictures'); };
const { readSlices } = await import('./read.js');
try {
  const words = JSON.parse(readFileSync('words.json'));
  const { slices, notes, foreign } = await readSlices(new Blob([readFileSync(0)]), words);
  const shown = slices.map(({ data, ...size }) => ({ ...size, data: Buffer.from(data).toString('base64') }));
  console.log(JSON.stringify({ slices: shown, notes, foreign }));
} catch (error) {
  console.log(JSON.stringify({ error: error.code ?? String(error) }));
}
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("node") is None or not (_SOURCE / "node_modules").is_dir():
        pytest.skip("node or the page's packages are not installed: npm ci in space_static/")
    folder = tmp_path_factory.mktemp("static") / "page"
    stage_static_space(folder, _ROOT / "release")
    (folder / "package.json").write_text('{"type": "module"}', encoding="utf-8")
    (folder / "read_file.js").write_text(_READ, encoding="utf-8")
    return folder


def _in_javascript(page: Path, content: bytes) -> dict[str, Any]:
    done = subprocess.run(
        ["node", "read_file.js"], cwd=page, input=content, capture_output=True, check=True, timeout=60
    )
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def _agree(page: Path, content: bytes) -> str:
    """Both read the same pixels and say the same of them, or both refuse; the page's reason, empty where it reads."""
    here = _in_javascript(page, content)
    try:
        there = read_slices(content)
    except ImageError as error:
        assert not here.get("slices"), f"the page judges what the package refuses: {error}"
        return str(here.get("error") or here["foreign"])
    assert "error" not in here, f"the page refuses ({here['error']}) what the package reads"
    assert here["notes"] == [note for note in there.notes if not note.startswith("the header says")]
    assert len(here["slices"]) == len(there.images)
    for one, known in zip(here["slices"], there.images.pixels, strict=True):
        pixels = np.frombuffer(base64.b64decode(one["data"]), np.uint8)
        assert np.abs(pixels.reshape(known.shape).astype(int) - known).max() <= 1
    return ""


# -- DICOM --


def _slice(**elements: Any) -> Dataset:
    dataset = dcmread(str(get_testdata_file("MR_small.dcm", download=False)))
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def _bytes(dataset: Dataset) -> bytes:
    file = io.BytesIO()
    dataset.save_as(file)
    return file.getvalue()


def _implicit(dataset: Dataset) -> bytes:
    dataset = deepcopy(dataset)
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    file = io.BytesIO()
    dataset.save_as(file, implicit_vr=True, little_endian=True)
    return file.getvalue()


def _typed(*words: str) -> Dataset:
    return _slice(ImageType=list(words))


def _grouped(shared: dict[str, Any], own: dict[str, Any] | None = None) -> Dataset:
    """A slice with functional groups: `{sequence: {keyword: value}}`."""
    dataset = _slice()
    for keyword, groups in (("SharedFunctionalGroupsSequence", shared), ("PerFrameFunctionalGroupsSequence", own)):
        if groups is None:
            continue
        group = Dataset()
        for sequence, elements in groups.items():
            item = Dataset()
            for name, value in elements.items():
                setattr(item, name, value)
            setattr(group, sequence, Sequence([item]))
        setattr(dataset, keyword, Sequence([group]))
    return dataset


_DERIVED = (
    "ADC", "EADC", "AVG_ADC", "FA", "FRACTIONAL", "TENSOR_B0", "CBF", "RELCBV", "MTT", "TMAX", "T2 MAP", "PERF_MAP",
    "R2STAR", "SUB", "SUBTRACTION", "T_TEST", "COLFA", "QUANTITY", "P", "PHASE", "PHASE MAP", "VELOCITY", "P_SE", "R",
    "REAL", "I", "IMAGINARY", "MIP", "MNIP", "CSA MIP", "MINIP", "PROJECTION IMAGE", "MAXIMUM", "VOLUME RENDERING",
)  # fmt: skip


@pytest.mark.parametrize("word", [*_DERIVED, "adc", " ADC "])
def test_a_picture_that_is_no_magnitude_by_its_image_type_is_refused(page: Path, word: str) -> None:
    assert _agree(page, _bytes(_typed("DERIVED", "PRIMARY", word))) == "dicom_derived"


@pytest.mark.parametrize("write", [_bytes, _implicit])
@pytest.mark.parametrize(
    "words",
    [
        ("ORIGINAL", "PRIMARY", "M", "ND"),
        ("DERIVED", "SECONDARY", "OTHER"),
        ("ADC", "MIP"),
        ("ORIGINAL", "PRIMARY", "MPR"),
    ],
)
def test_a_magnitude_picture_is_read(page: Path, words: tuple[str, ...], write: Callable[[Dataset], bytes]) -> None:
    assert not _agree(page, write(_typed(*words)))


def _with_private(tag: int, vr: str, value: Any) -> Dataset:
    dataset = _slice(ImageType=["ORIGINAL", "PRIMARY"])
    dataset.add_new(tag, vr, value)
    return dataset


_TYPES = "MRImageFrameTypeSequence"
_KINDS = {
    "component": _slice(ComplexImageComponent="PHASE"),
    "component of a frame": _grouped({}, {_TYPES: {"ComplexImageComponent": "REAL"}}),
    "frame type": _grouped({}, {_TYPES: {"FrameType": ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"]}}),
    "shared frame type": _grouped({_TYPES: {"FrameType": ["ORIGINAL", "PRIMARY", "M", "P"]}}),
    "GE": _with_private(GE_KIND, "SS", 1),
    "GE, of no type": _with_private(GE_KIND, "UN", struct.pack("<h", 3)),
    "Philips": _with_private(PHILIPS_KIND, "CS", "P"),
    "Philips, of no type": _with_private(PHILIPS_KIND, "UN", b"I "),
}


@pytest.mark.parametrize("write", [_bytes, _implicit])
@pytest.mark.parametrize("kind", _KINDS)
def test_a_picture_that_other_elements_call_no_magnitude_is_refused(
    page: Path, kind: str, write: Callable[[Dataset], bytes]
) -> None:
    assert _agree(page, write(_KINDS[kind])) == "dicom_derived"


@pytest.mark.parametrize(
    "dataset",
    [
        _slice(ImageType=["ORIGINAL", "PRIMARY", "PHASE"], ComplexImageComponent="MAGNITUDE"),
        _grouped({}, {_TYPES: {"FrameType": ["ORIGINAL", "PRIMARY", "M"]}}),
        _with_private(GE_KIND, "SS", 0),
        _with_private(PHILIPS_KIND, "CS", "M"),
    ],
)
def test_a_picture_that_other_elements_call_a_magnitude_is_read(page: Path, dataset: Dataset) -> None:
    assert not _agree(page, _bytes(dataset))


_VIEWS, _VALUES = "FrameVOILUTSequence", "PixelValueTransformationSequence"
_SHOWN = {
    "stored window": _slice(WindowCenter="600", WindowWidth="300"),
    "two windows": _slice(WindowCenter=["600", "60"], WindowWidth=["300", "30"]),
    "no width": _slice(WindowCenter="600", WindowWidth="0.5"),
    "sigmoid": _slice(WindowCenter="600", WindowWidth="300", VOILUTFunction="SIGMOID"),
    "window of the frame": _grouped({}, {_VIEWS: {"WindowCenter": "600", "WindowWidth": "300"}}),
    "slope of all frames": _grouped(
        {
            _VALUES: {"RescaleSlope": "2", "RescaleIntercept": "-9"},
            _VIEWS: {"WindowCenter": "900", "WindowWidth": "700"},
        }
    ),
    "slope alone": _slice(RescaleSlope="2", WindowCenter="600", WindowWidth="300"),
    "inverted": _slice(PhotometricInterpretation="MONOCHROME1"),
    "no frames told": _slice(NumberOfFrames="0"),
    "no modality told": _slice(Modality=""),
    "an unknown part": _slice(BodyPartExamined="UNKNOWNPART"),
    "a head": _slice(BodyPartExamined="HEADNECK"),
}


@pytest.mark.parametrize("write", [_bytes, _implicit])
@pytest.mark.parametrize("name", _SHOWN)
def test_a_slice_is_shown_in_the_window_of_the_package(
    page: Path, name: str, write: Callable[[Dataset], bytes]
) -> None:
    assert not _agree(page, write(_SHOWN[name]))


@pytest.mark.parametrize("signed", [0, 1])
def test_what_lies_above_the_stored_bits_is_no_value(page: Path, signed: int) -> None:
    dataset = _slice(BitsStored=12, HighBit=11, PixelRepresentation=signed)
    values = np.frombuffer(dataset.PixelData, np.uint16) & 0x0FFF | 0x5000
    dataset.PixelData = values.astype(np.uint16).tobytes()
    assert not _agree(page, _bytes(dataset))


def _colours(**elements: Any) -> Dataset:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    told = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0, "BitsAllocated": 8}
    dataset = _slice(**{**told, "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0, **elements})
    dataset["PixelData"].VR = "OB"
    dataset.PixelData = pixels.tobytes()
    return dataset


@pytest.mark.parametrize("planar", [0, 1])
def test_colours_are_read(page: Path, planar: int) -> None:
    assert not _agree(page, _bytes(_colours(PlanarConfiguration=planar)))


def _without(dataset: Dataset, keyword: str) -> Dataset:
    delattr(dataset, keyword)
    return dataset


def _cut(dataset: Dataset) -> Dataset:
    dataset.PixelData = dataset.PixelData[: len(dataset.PixelData) // 2]
    return dataset


_STORAGE = "1.2.840.10008.5.1.4.1.1."
_REFUSED = {
    "CT": _slice(Modality="CT"),
    "unknown method": _slice(Modality="XYZ"),
    "two methods": _slice(Modality=["MR", "CT"]),
    "CT by its class": _slice(SOPClassUID=f"{_STORAGE}2"),
    "spectroscopy": _slice(SOPClassUID=f"{_STORAGE}4.2"),
    "a knee": _slice(BodyPartExamined="KNEE"),
    "a spine": _slice(BodyPartExamined="CSPINE"),
    "a mosaic": _typed("ORIGINAL", "PRIMARY", "M", "MOSAIC"),
    "no pixels": _without(_slice(), "PixelData"),
    "no rows": _without(_slice(), "Rows"),
    "zero columns": _slice(Columns=0),
    "half the pixels": _cut(_slice()),
    "half the colours": _cut(_colours()),
    "grey of three samples": _slice(SamplesPerPixel=3, PlanarConfiguration=0),
    "unknown colours": _slice(PhotometricInterpretation="MONOCHROME3"),
    "more bits than there are": _slice(BitsStored=20),
    "no stored bits": _without(_slice(), "BitsStored"),
    "no sign told": _without(_slice(), "PixelRepresentation"),
    "frames below zero": _slice(NumberOfFrames="-1"),
    "too large": _slice(Rows=65535, Columns=65535),
    "too much text": _slice(BodyPartExamined="A" * 5000),
}


@pytest.mark.parametrize("write", [_bytes, _implicit])
@pytest.mark.parametrize("name", _REFUSED)
def test_what_the_package_refuses_of_dicom_the_page_refuses(
    page: Path, name: str, write: Callable[[Dataset], bytes]
) -> None:
    assert _agree(page, write(_REFUSED[name]))


def test_a_dicom_file_behind_the_header_of_a_picture_is_judged_as_dicom(page: Path) -> None:
    content = _bytes(_slice(Modality="CT"))
    assert "CT" in _agree(page, b"\xff\xd8\xff\xe0" + content[4:])


# -- NIfTI --


def _volume(
    shape: tuple[int, ...] = (24, 20, 6), version: int = 1, dtype: Any = np.int16, cut: int = 0, **fields: Any
) -> bytes:
    """A file whose header says `fields`, unchecked; `cut`: bytes that are missing at its end."""
    voxels = np.random.default_rng(0).integers(0, 120, shape).astype(dtype)
    kind = nibabel.Nifti1Image if version == 1 else nibabel.Nifti2Image
    header = kind(voxels, np.diag([-1.0, 1.0, 3.0, 1.0])).header
    header["magic"] = b"n+1" if version == 1 else b"n+2"
    header["vox_offset"] = offset = 352 if version == 1 else 544
    for name, value in fields.items():
        header[name] = value
    content = header.binaryblock.ljust(offset, b"\0") + voxels.tobytes(order="F")
    return content[: len(content) - cut]


_QFORM = {"sform_code": 0, "qform_code": 1}
_PIXDIM = [1, 1, 1, 3, 1, 1, 1, 1]
_READ_VOLUMES: dict[str, dict[str, Any]] = {
    "one volume": {},
    "two volumes": {"shape": (24, 20, 6, 2)},
    "many volumes": {"shape": (8, 6, 4, 30, 40)},
    "one of five dimensions": {"shape": (24, 20, 6, 1, 1)},
    "one slice": {"shape": (24, 20)},
    "cubes": {"shape": (24, 20, 22), "pixdim": [1] * 8},
    "dimensions that do not count": {
        "shape": (24, 20),
        "dim": [2, 24, 20, 9, 9, 1, 1, 1],
        "pixdim": [1, 1, 1, 9, 1, 1, 1, 1],
    },
    "bytes": {"dtype": np.uint8},
    "fractions": {"dtype": np.float64},
    "falling": {"scl_slope": -2, "scl_inter": 5},
    "an infinite slope": {"scl_slope": -np.inf, "scl_inter": np.nan},
    "labels": {"intent_code": 1002},
    "no orientation": {"sform_code": 0, "qform_code": 0},
    "a flat orientation": {"srow_x": [0, 0, 0, 0], "srow_y": [0, 2, 0, 0], "srow_z": [2, 0, 0, 0]},
    "no number in the orientation": {"srow_x": [np.nan, 0, 0, 0]},
    "qform": {**_QFORM, "quatern_b": 0.5, "quatern_c": -0.5, "quatern_d": 0.5, "pixdim": [-1, 1, 1, 3, 1, 1, 1, 1]},
    "qform of half a turn": {**_QFORM, "quatern_b": 1, "quatern_c": 0, "quatern_d": 0, "pixdim": _PIXDIM},
    "qform of another half": {**_QFORM, "quatern_b": 0, "quatern_c": 0, "quatern_d": 1.0000001, "pixdim": _PIXDIM},
}
_REFUSED_VOLUMES: dict[str, tuple[str, dict[str, Any]]] = {
    "cut off": ("broken", {"cut": 1}),
    "colours": ("nifti_kind", {"datatype": 128}),
    "complex": ("nifti_kind", {"datatype": 32}),
    "no dimensions": ("broken", {"dim": [0, 24, 20, 6, 1, 1, 1, 1]}),
    "no slices": ("broken", {"dim": [3, 24, 20, 0, 1, 1, 1, 1]}),
    "slices below zero": ("broken", {"dim": [3, 24, 20, -6, 1, 1, 1, 1]}),
    "too many slices": ("too_large", {"dim": [3, 2000, 1500, 1100, 1, 1, 1, 1]}),
    "a later first voxel": ("broken", {"vox_offset": 2**25}),
    "an earlier first voxel": ("broken", {"vox_offset": -16}),
    "a slope without an intercept": ("broken", {"scl_slope": 2, "scl_inter": np.nan}),
    "no quaternion": ("broken", {**_QFORM, "quatern_b": 1, "quatern_c": 1, "pixdim": _PIXDIM}),
    "sides below zero": ("broken", {**_QFORM, "pixdim": [1, -1, 1, 3, 1, 1, 1, 1]}),
    "no handedness": ("broken", {**_QFORM, "pixdim": [0, 1, 1, 3, 1, 1, 1, 1]}),
}


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("name", _READ_VOLUMES)
def test_a_volume_is_cut_as_the_package_does_with_its_notes(page: Path, name: str, version: int) -> None:
    if version == 2 and name == "qform of another half":
        pytest.skip("its numbers have more digits, and so it is no quaternion")
    assert not _agree(page, _volume(version=version, **_READ_VOLUMES[name]))


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("name", _REFUSED_VOLUMES)
def test_what_the_package_refuses_of_nifti_the_page_refuses(page: Path, name: str, version: int) -> None:
    if version == 2 and name == "a later first voxel":
        pytest.skip("one case is enough")
    code, fields = _REFUSED_VOLUMES[name]
    assert _agree(page, _volume(version=version, **fields)) == code


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("intent", [min(NO_SCAN), 3, 22, 24, 3001, max(NO_SCAN)])
def test_a_map_of_statistics_is_refused(page: Path, intent: int, version: int) -> None:
    assert _agree(page, _volume(version=version, intent_code=intent)) == "nifti_map"


def test_a_packed_volume_of_several_is_read_with_a_note(page: Path) -> None:
    content = (Path(data_path) / "example4d.nii.gz").read_bytes()
    assert not _agree(page, content)
    assert _in_javascript(page, content)["notes"] == ["of 2 volumes in the file the first is read"]


def test_a_header_without_its_voxels_is_refused(page: Path) -> None:
    assert _agree(page, _volume(magic=b"ni1"))


# -- pictures --


def _film(kind: str, frames: int, **options: Any) -> bytes:
    shades = [Image.new("RGB", (48, 48), (shade,) * 3) for shade in range(10, 10 + 60 * frames, 60)]
    file = io.BytesIO()
    several = {"save_all": True, "append_images": shades[1:]} if frames > 1 else {}
    shades[0].save(file, kind, icc_profile=np.random.default_rng(0).bytes(6000), **several, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {}), ("PNG", {"default_image": True}), ("WEBP", {"lossless": True})]
)
def test_a_film_behind_a_long_profile_is_not_answered_by_its_first_page(
    page: Path, kind: str, options: dict[str, Any]
) -> None:
    content = _film(kind, 3, **options)
    assert content.find(b"acTL" if kind == "PNG" else b"ANMF") > 4096
    assert len(read_slices(content).images) == 3
    assert _in_javascript(page, content) == {"error": "several"}


@pytest.mark.parametrize("kind", ["GIF", "TIFF"])
@pytest.mark.parametrize("frames", [1, 3])
def test_what_browsers_would_show_the_first_page_of_is_no_kind_the_page_reads(
    page: Path, kind: str, frames: int
) -> None:
    assert _in_javascript(page, _film(kind, frames)) == {"error": "unknown"}


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
def test_one_page_is_given_to_the_browser(page: Path, kind: str) -> None:
    assert _in_javascript(page, _film(kind, 1)) == {"error": "broken"}  # by node, which decodes none
