"""What each frame of a DICOM file shows: its place, and what tells it from others at the same place. No torch."""

from __future__ import annotations

import math
import re
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from brain_mri.io.mosaic import SIEMENS_COUNT, UNREADABLE, Tile, is_mosaic, tiles_of

if TYPE_CHECKING:
    from pydicom import Dataset

GROUP_TAGS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
GE_KIND, PHILIPS_KIND = 0x0043102F, 0x20051011
SIEMENS_WEIGHT, PHILIPS_WEIGHT, GE_WEIGHT = 0x0019100C, 0x20011003, 0x00431039
FRAME_TAGS: tuple[str | int, ...] = (
    "ImageType", "ComplexImageComponent", "SliceLocation", "ImagePositionPatient", "ImageOrientationPatient",
    "InstanceNumber", "PixelSpacing", "EchoTime", "EchoNumbers", "RepetitionTime", "InversionTime", "SequenceName",
    "TemporalPositionIdentifier", "AcquisitionNumber", "AcquisitionTime", "ContentTime", "TriggerTime",
    "DiffusionBValue", "SliceThickness",
    GE_KIND, PHILIPS_KIND, SIEMENS_WEIGHT, PHILIPS_WEIGHT, GE_WEIGHT,
)  # fmt: skip

MAGNITUDE = "magnitude"
LINEAR = "LINEAR"
_COMPONENTS = {"PHASE": "phase", "REAL": "real part", "IMAGINARY": "imaginary part"}
_KINDS = (
    ("phase", re.compile(r"P|PHASE( MAP)?|P_[A-Z]+|VELOCITY( MAP)?|PHASE_MAP")),
    ("real part", re.compile(r"R|REAL|R_[A-Z]+")),
    ("imaginary part", re.compile(r"I|IMAGINARY|I_[A-Z]+")),
    ("derived map", re.compile(
        r"(E|AVG)?_?[AE]?ADC\w*|FA|FRACT?\w*"
            r"|(REL|VOL)_(ANISO|RATIO)\w*|TENSOR\w*|R?E?L?_?(CBF|CBV|MTT|TTP)\w*|TMAX|\w+[ _]MAP"
        r"|T2STAR|R2\w*|B0|SUB|SUBTRACT\w*|QUANTITY|STD_DEVIATION|Z_?SCORE|T_?TEST\w*|COLFA|\w*PERFUSION_MAP\w*"
    )),
    ("projection", re.compile(r"PROJECTION IMAGE|(CSA ?)?M(N|IN|AX)?_?IP|MAXIMUM|MINIMUM|VOLUME RENDER\w*")),
)  # fmt: skip
_USUAL = frozenset({"M", "ND", "NORM", "NONE", "OTHER", "MIXED", "DIS2D", "DIS3D", "DIS3DF", "SH1", "FIL", "FM", ""})
_BY_NUMBER: dict[float | None, str] = {1: "phase", 2: "real part", 3: "imaginary part"}
_BY_LETTER = {"P": "phase", "R": "real part", "I": "imaginary part"}
_BINARY = {SIEMENS_COUNT: "<H", GE_KIND: "<h", PHILIPS_WEIGHT: "<f"}  # types of private elements that are no text


@dataclass(frozen=True)
class Frame:
    """A frame of a DICOM file, or a tile of one.

    Attributes:
        file: the number of its file.
        frame: its number in the file.
        tile: which part of it; None for all.
        kind: `MAGNITUDE`, or what it is instead: "phase", "real part", "imaginary part", "derived map", "projection".
        axes: the directions of its rows and columns, rounded; None where they are not told.
        position: mm along the normal, or None.
        number: in the order of the file or series, or None.
        size: width and height in pixels.
        spacing: mm between the centres of rows, and of columns; None where it is not told.
        apart: what tells it from other frames at the same place, by `ATTRIBUTES`; None for what is not told.
        window: the stored one as centre, width and function; None where there is none that is usable.
    """

    file: int
    frame: int
    tile: Tile | None
    kind: str
    axes: tuple[float, ...] | None
    position: float | None
    number: int | None
    size: tuple[int, int]
    spacing: tuple[float, float] | None
    apart: tuple[Any, ...]
    window: tuple[float, float, str] | None


ATTRIBUTES = ("sort of picture", "echo", "inversion time", "diffusion weight", "repeat", "repeat", "repeat", "repeat")
"""What `Frame.apart` lists: image type, echo, inversion, b-value, temporal position, acquisition, times."""


def kind_words() -> dict[str, str]:
    """What a frame is that is not judged, and the pattern of the words of ImageType that say so, from the third on.

    For programs in other languages, as `dicom_header.refusal_words`.
    """
    return {kind: words.pattern for kind, words in _KINDS}


def frames_of(dataset: Dataset, file: int, count: int) -> Iterator[Frame]:
    """Describe each of a file's `count` frames, or the tiles of a Siemens mosaic.

    Raises:
        Exception: of any class, where elements are damaged; to be called inside `untrusted.parsing`.
    """
    size = (int(dataset.Columns), int(dataset.Rows))
    shared: Any = next(iter(dataset.get(GROUP_TAGS[0]) or []), None)
    groups: Any = dataset.get(GROUP_TAGS[1]) or []
    found = [
        _frame(_Look(dataset, shared, groups[i] if i < len(groups) else None), file, i, size, count > 1)
        for i in range(count)
    ]
    if not is_mosaic(dataset, count):
        yield from found
    elif tiles := tiles_of(dataset):
        yield from (_tiled(found[0], tile, k) for k, tile in enumerate(tiles))
    else:
        yield replace(found[0], kind=UNREADABLE)


def _tiled(whole: Frame, tile: Tile, k: int) -> Frame:
    size = (tile.right - tile.left, tile.bottom - tile.top)
    return replace(whole, tile=tile, position=float(k), size=size, spacing=None)


class _Look:
    """Elements of one frame: of its own group, of the shared group, or of the file."""

    def __init__(self, dataset: Dataset, shared: Dataset | None, own: Dataset | None) -> None:
        self.dataset, self.groups = dataset, [group for group in (own, shared) if group is not None]

    def __call__(self, keyword: str, *sequences: str) -> Any:
        for group in self.groups:
            for sequence in sequences:
                for item in (group.get(sequence) or [])[:1]:
                    if (value := item.get(keyword)) is not None:
                        return value
        return self.dataset.get(keyword)

    def number(self, keyword: str, *sequences: str) -> float | None:
        return number(self(keyword, *sequences))


def number(value: Any) -> float | None:
    """An element's (first) value as a number, or None where it is none; bytes of an unknown type are read as text."""
    if isinstance(value, bytes):
        value = value.strip(b" \0").decode("latin-1")
    elif value is not None and not isinstance(value, str | int | float):
        value = next(iter(value), None)
    if isinstance(value, str):
        value = value.split("\\")[0]
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None


def private_number(dataset: Dataset, tag: int) -> float | None:
    """A private element as a number; where the file does not tell its type, by the type that its maker gives it."""
    element = dataset.get(tag)
    if element is None:
        return None
    form = _BINARY.get(tag)
    if form and isinstance(element.value, bytes) and len(element.value) >= struct.calcsize(form):
        return number(struct.unpack_from(form, element.value)[0])
    return number(element.value)


def _frame(look: _Look, file: int, i: int, size: tuple[int, int], several: bool) -> Frame:
    types = [str(one).upper().strip() for one in _listed(look("FrameType", "MRImageFrameTypeSequence"))]
    types = types or [str(one).upper().strip() for one in _listed(look("ImageType"))]
    axes, position = _place(look)
    if several and not look.groups:  # the file's one position is that of its first frame
        position = None
    spacing = [number(one) for one in _listed(look("PixelSpacing", "PixelMeasuresSequence"))]
    count = look("InStackPositionNumber", "FrameContentSequence")
    return Frame(
        file=file,
        frame=i,
        tile=None,
        kind=_kind(look, types),
        axes=axes,
        position=number(count) if position is None else position,
        number=None if (told := look.number("InstanceNumber")) is None else int(told),
        size=size,
        spacing=(spacing[0], spacing[1]) if len(spacing) == 2 and spacing[0] and spacing[1] else None,
        apart=_apart(look, types),
        window=_window(look),
    )


def _listed(value: Any) -> list[Any]:
    return [] if value is None else [value] if isinstance(value, str | int | float) else list(value)


def _kind(look: _Look, types: list[str]) -> str:
    component = str(look("ComplexImageComponent", "MRImageFrameTypeSequence") or "").upper()
    if component in _COMPONENTS:
        return _COMPONENTS[component]
    for kind, words in _KINDS:
        if any(words.fullmatch(word) for word in types[2:]):
            if component == "MAGNITUDE" and kind in _COMPONENTS.values():
                continue
            return kind
    if component == "MAGNITUDE" or "M" in types[2:]:
        return MAGNITUDE
    if (ge := private_number(look.dataset, GE_KIND)) in _BY_NUMBER:
        return _BY_NUMBER[ge]
    told = look.dataset.get(PHILIPS_KIND)
    letter = told.value.decode("latin-1") if told is not None and isinstance(told.value, bytes) else told and told.value
    return _BY_LETTER.get(str(letter).strip(" \0").upper(), MAGNITUDE)


def _place(look: _Look) -> tuple[tuple[float, ...] | None, float | None]:
    """The directions of the rows and columns, and the position along their normal, each None where it is not told."""
    position = [number(one) for one in _listed(look("ImagePositionPatient", "PlanePositionSequence"))]
    axes = [number(one) for one in _listed(look("ImageOrientationPatient", "PlaneOrientationSequence"))]
    if len(axes) != 6 or None in axes:
        return None, look.number("SliceLocation")
    directions = np.array(axes, float)
    rounded = tuple(float(one) + 0.0 for one in np.round(directions, 2))
    if len(position) != 3 or None in position:
        return rounded, look.number("SliceLocation")
    along = float(np.dot(np.cross(directions[:3], directions[3:]), np.array(position, float)))
    return rounded, along if math.isfinite(along) else None


def _window(look: _Look) -> tuple[float, float, str] | None:
    """The first stored window. By the standard a linear one is at least 1 wide, others are wider than 0."""
    centre, width = (look.number(keyword, "FrameVOILUTSequence") for keyword in ("WindowCenter", "WindowWidth"))
    told = str(look("VOILUTFunction", "FrameVOILUTSequence") or LINEAR).upper()
    function = told if told in ("LINEAR_EXACT", "SIGMOID") else LINEAR
    if centre is None or width is None or width < (1.0 if function == LINEAR else sys.float_info.min):
        return None
    return centre, width, function


def _apart(look: _Look, types: list[str]) -> tuple[Any, ...]:
    echo = look.number("EffectiveEchoTime", "MREchoSequence")
    echo = look.number("EchoTime") if echo is None else echo
    weight = look.number("DiffusionBValue", "MRDiffusionSequence")
    for tag in (SIEMENS_WEIGHT, PHILIPS_WEIGHT, GE_WEIGHT):
        weight = private_number(look.dataset, tag) if weight is None else weight
    named = re.search(r"_b(\d+)", str(look("SequenceName") or "").lower())
    weight = float(named[1]) if weight is None and named else weight
    return (
        tuple(sorted(set(types[2:]) - _USUAL)),
        (look.number("EchoNumbers"), None if echo is None else round(echo, 2)),
        look.number("InversionTime"),
        None if weight is None else round(weight % 1e6),  # GE adds a billion
        look.number("TemporalPositionIndex", "FrameContentSequence")
        if look.groups
        else look.number("TemporalPositionIdentifier"),
        look.number("AcquisitionNumber"),
        look.number("TriggerTime"),
        str(look("AcquisitionTime") or look("ContentTime") or ""),
    )
