"""What the package refuses of DICOM by its header, the page refuses too; else both read the same pixels."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, Sequence, dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import ImplicitVRLittleEndian
from support.static_reading import agree, staged

from brain_mri.io.frames import GE_KIND, PHILIPS_KIND


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return staged(tmp_path_factory.mktemp("static") / "page")


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
    assert agree(page, _bytes(_typed("DERIVED", "PRIMARY", word))) == "dicom_derived"


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
    assert not agree(page, write(_typed(*words)))


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
    assert agree(page, write(_KINDS[kind])) == "dicom_derived"


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
    assert not agree(page, _bytes(dataset))


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
    assert not agree(page, write(_SHOWN[name]))


_NAMED = (
    "AX T2 FLAIR", "T1 MPRAGE", "T1 MPRAGE +C", "Cor T1 post Gd", "sag t1 ohne KM", "T1 FLAIR", "T1W_SE_CE",
    "DWI b1000", "ep2d_diff", "SWI", "pCASL", "TOF 3D", "fMRI rest", "T2* GRE", "t2_star", "STIR", "PD dens",
    "localizer", "locäl", "MPRAGE größe", "post fossa T2", "Mr. Flair", "T10", "x",
)  # fmt: skip


@pytest.mark.parametrize("name", _NAMED)
def test_the_same_is_said_of_a_sequence_that_is_named(page: Path, name: str) -> None:
    assert not agree(page, _bytes(_slice(SeriesDescription=name, SpecificCharacterSet="ISO_IR 100")))


@pytest.mark.parametrize(
    "elements",
    [
        {"ScanningSequence": ["EP", "SE"], "SeriesDescription": ""},
        {"ScanningSequence": "SE", "ProtocolName": "T2"},
        {"AcquisitionContrast": "FLUID_ATTENUATED"},
        {"SeriesDescription": "T1", "ContrastBolusAgent": "Gadovist"},
        {"SeriesDescription": "T1", "ContrastBolusAgent": "NONE"},
        {"SeriesDescription": "T1", "ContrastBolusAgentSequence": Sequence([Dataset()])},
        {"SeriesDescription": "T1 pre", "ContrastBolusAgent": "Gadovist"},
    ],
)
def test_the_same_is_said_of_a_sequence_and_a_contrast_agent(page: Path, elements: dict[str, Any]) -> None:
    assert not agree(page, _bytes(_slice(**elements)))


@pytest.mark.parametrize("signed", [0, 1])
def test_what_lies_above_the_stored_bits_is_no_value(page: Path, signed: int) -> None:
    dataset = _slice(BitsStored=12, HighBit=11, PixelRepresentation=signed)
    values = np.frombuffer(dataset.PixelData, np.uint16) & 0x0FFF | 0x5000
    dataset.PixelData = values.astype(np.uint16).tobytes()
    assert not agree(page, _bytes(dataset))


def _colours(**elements: Any) -> Dataset:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    told = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0, "BitsAllocated": 8}
    dataset = _slice(**{**told, "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0, **elements})
    dataset["PixelData"].VR = "OB"
    dataset.PixelData = pixels.tobytes()
    return dataset


@pytest.mark.parametrize("planar", [0, 1])
def test_colours_are_read(page: Path, planar: int) -> None:
    assert not agree(page, _bytes(_colours(PlanarConfiguration=planar)))


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
    "two slopes": _slice(RescaleSlope=["1", "2"], RescaleIntercept="0"),
    "colours in no order": _without(_colours(), "PlanarConfiguration"),
    "too large": _slice(Rows=65535, Columns=65535),
    "too much text": _slice(BodyPartExamined="A" * 5000),
}


@pytest.mark.parametrize("write", [_bytes, _implicit])
@pytest.mark.parametrize("name", _REFUSED)
def test_what_the_package_refuses_of_dicom_the_page_refuses(
    page: Path, name: str, write: Callable[[Dataset], bytes]
) -> None:
    assert agree(page, write(_REFUSED[name]))


@pytest.mark.parametrize("damaged", [b"\0A", b"C\0"])
def test_a_damaged_type_of_an_element_is_refused(page: Path, damaged: bytes) -> None:
    element = b"\x28\0\x04\0"
    assert agree(page, _bytes(_slice()).replace(element + b"CS", element + damaged)) == "broken"


def test_a_dicom_file_behind_the_header_of_a_picture_is_judged_as_dicom(page: Path) -> None:
    content = _bytes(_slice(Modality="CT"))
    assert "CT" in agree(page, b"\xff\xd8\xff\xe0" + content[4:])
