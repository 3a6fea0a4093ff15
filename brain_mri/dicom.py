"""Reading DICOM: stored values, windowed to 8-bit grey as a reader would see them. No torch.

Of a file only the elements in `_TAGS` are kept: they describe the picture, none of them the patient.
pydicom is imported inside the functions, so that reading a JPEG costs none of its time.
"""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from brain_mri.codestreams import check_frame
from brain_mri.errors import ImageError
from brain_mri.sources import MAX_DICOM_BYTES, check_size, parsing, read_all
from brain_mri.windowing import Array, Bytes, in_blocks, percentile_window, sampled

if TYPE_CHECKING:
    from pydicom import Dataset

_FRAME_TAGS = (
    "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "Rows", "Columns", "NumberOfFrames",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths", "RedPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData", "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData", "SegmentedRedPaletteColorLookupTableData",
    "SegmentedGreenPaletteColorLookupTableData", "SegmentedBluePaletteColorLookupTableData",
)  # fmt: skip
_MODALITY_TAGS = ("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence")
_VIEW_TAGS = ("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence")
_PLACE_TAGS = ("SeriesInstanceUID", "InstanceNumber", "ImagePositionPatient", "ImageOrientationPatient")
_GROUP_TAGS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_PIXEL_TAGS = ("FloatPixelData", "DoubleFloatPixelData", "PixelData")
_TAGS = (*_FRAME_TAGS, *_MODALITY_TAGS, *_VIEW_TAGS, *_PLACE_TAGS, *_GROUP_TAGS)
_FRAMES_LOOKED_AT = 16  # for a window, where none is stored


@dataclass(frozen=True)
class Place:
    """Where a DICOM file belongs among others.

    Attributes:
        series: the series' identifier; for comparing, never for showing.
        position: millimetres along the normal of the slice, or None.
        number: the instance number, or None.
        frames: how many slices the file holds; 0 if it has no pixels.
        size: pixels of a slice, width and height.
    """

    series: str
    position: float | None
    number: int | None
    frames: int
    size: tuple[int, int]


def parse(content: bytes, label: str, *, pixels: bool = True) -> Dataset:
    """Parse a DICOM file, with its pixel data or without.

    Raises:
        ImageError: not DICOM, damaged, or larger when unpacked than `MAX_DICOM_BYTES`.
    """
    from pydicom import dcmread
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    with parsing(label, "DICOM file"):
        _check_deflated(content, label)
        tags: list[Any] = [*_TAGS, *_PIXEL_TAGS]
        dataset = dcmread(io.BytesIO(content), force=True, specific_tags=tags, stop_before_pixels=not pixels)
        if "TransferSyntaxUID" not in dataset.file_meta:
            implicit, little = dataset.original_encoding
            plain = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
            dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else plain
        return dataset


def _check_deflated(content: bytes, label: str) -> None:
    """Unpack a deflated dataset up to the limit, because pydicom unpacks it without one."""
    from pydicom.filereader import read_dataset
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    file = io.BytesIO(content)
    file.seek(132 if content[128:132] == b"DICM" else 0)
    meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        unpacked = zlib.decompressobj(-zlib.MAX_WBITS).decompress(file.read(), MAX_DICOM_BYTES + 1)
        if len(unpacked) > MAX_DICOM_BYTES:
            raise ImageError(f"{label}: unpacks to more than {MAX_DICOM_BYTES >> 20} MiB; give a smaller file.")


def place_of(dataset: Dataset, label: str) -> Place:
    """Read where a dataset belongs, and whether it has pixels at all (Rows and Columns say so).

    Raises:
        ImageError: these elements are damaged, or claim more than the limits allow.
    """
    with parsing(label, "DICOM file"):
        frames = int(dataset.get("NumberOfFrames") or 1) if "Rows" in dataset and "Columns" in dataset else 0
        width, height = (int(dataset.Columns), int(dataset.Rows)) if frames else (0, 0)
        if frames:
            check_size(width, height, label, frames)
        number = dataset.get("InstanceNumber")
        return Place(
            series=str(dataset.get("SeriesInstanceUID", "")),
            position=_position(dataset),
            number=None if number is None else int(number),
            frames=frames,
            size=(width, height),
        )


def _position(dataset: Dataset) -> float | None:
    position, axes = dataset.get("ImagePositionPatient"), dataset.get("ImageOrientationPatient")
    if not position or not axes or len(position) != 3 or len(axes) != 6:
        return None
    values = [float(value) for value in (*position, *axes)]
    along = float(np.dot(np.cross(values[3:6], values[6:9]), values[:3]))
    return along if math.isfinite(along) else None


def middle_slice(file: BinaryIO, label: str) -> Bytes:
    """Read the (lower) middle slice of a DICOM file: uint8 of shape (rows, columns) or (rows, columns, 3).

    Raises:
        ImageError: no pixel data, damaged, beyond the limits, or compressed in a way that no plugin decodes.
    """
    dataset, frames = _with_pixels(read_all(file, MAX_DICOM_BYTES, label), label)
    index = (frames - 1) // 2
    return Volume([lambda: dataset], [(0, index)], label).slices()[0]


def all_slices(file: BinaryIO, label: str) -> list[Bytes]:
    """Read every slice of a DICOM file, in one window; shapes and errors as `middle_slice`."""
    dataset, frames = _with_pixels(read_all(file, MAX_DICOM_BYTES, label), label)
    return Volume([lambda: dataset], [(0, index) for index in range(frames)], label).slices()


def _with_pixels(content: bytes, label: str) -> tuple[Dataset, int]:
    dataset = parse(content, label)
    frames = place_of(dataset, label).frames
    if not frames or not any(keyword in dataset for keyword in _PIXEL_TAGS):
        raise ImageError(f"{label}: a DICOM file without pixel data (a report or an index); give one with a picture.")
    return dataset, frames


class Volume:
    """The slices of one or several DICOM files that are shown in one window.

    Attributes:
        files: for each file, a call that parses it; one file at a time is in memory.
        order: the file and the frame in it of each slice.
        label: what errors call it.
    """

    def __init__(self, files: Sequence[Callable[[], Dataset]], order: Sequence[tuple[int, int]], label: str) -> None:
        self.files, self.order, self.label = files, order, label
        self._open: tuple[int, Dataset | None] = (-1, None)

    def slices(self) -> list[Bytes]:
        """Decode all slices, uint8 of shape (rows, columns), or (rows, columns, 3) where they are in colour."""
        with parsing(self.label, "DICOM file"):
            view = self._view()
            return [self._slice(file, frame, view) for file, frame in self.order]

    def _dataset(self, file: int) -> Dataset:
        if self._open[0] != file or self._open[1] is None:
            self._open = (-1, None)
            self._open = (file, self.files[file]())
        assert self._open[1] is not None
        return self._open[1]

    def _slice(self, file: int, frame: int, view: Callable[[Array], Array]) -> Bytes:
        dataset = self._dataset(file)
        stored = _stored(dataset, frame, self.label)
        if stored.ndim == 3:
            return _eight_bit(stored, dataset)
        from pydicom.pixels.processing import apply_modality_lut

        rules = _rules(dataset, frame)
        shown = in_blocks(stored, lambda block: view(apply_modality_lut(block, rules)))
        return np.invert(shown) if dataset.get("PhotometricInterpretation") == "MONOCHROME1" else shown

    def _view(self) -> Callable[[Array], Array]:
        """Choose how values of all slices become 0..255: the window stored in the middle one, else percentiles."""
        from pydicom.pixels.processing import apply_modality_lut

        file, frame = self.order[(len(self.order) - 1) // 2]
        stored = _stored_view(_rules(self._dataset(file), frame))
        if stored is not None:
            return stored
        samples = []
        for place in sorted({round(i) for i in np.linspace(0, len(self.order) - 1, _FRAMES_LOOKED_AT)}):
            file, frame = self.order[place]
            values = _stored(self._dataset(file), frame, self.label)
            if values.ndim == 2:
                samples.append(sampled(apply_modality_lut(sampled(values), _rules(self._dataset(file), frame))))
        low, high = percentile_window(samples)
        scale = 255.0 / (high - low) if high > low else 0.0
        return lambda values: (np.asarray(values, np.float64) - low) * scale


def _stored(dataset: Dataset, frame: int, label: str) -> Array:
    """Decode one frame: shape (rows, columns), or (rows, columns, 3) in RGB."""
    from pydicom.encaps import get_frame
    from pydicom.pixels.processing import apply_color_lut
    from pydicom.pixels.utils import pixel_array

    frames = int(dataset.get("NumberOfFrames") or 1)
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        codestream = get_frame(dataset.PixelData, frame, number_of_frames=frames)
        check_frame(codestream, int(dataset.Rows), int(dataset.Columns), label)
    array = pixel_array(dataset, index=frame)
    if dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
        array = apply_color_lut(array, dataset)
    return array


def _eight_bit(colours: Array, dataset: Dataset) -> Bytes:
    """Shift RGB values of more bits to 8; the entries of a palette use all bits of their type."""
    palette = dataset.get("PhotometricInterpretation") == "PALETTE COLOR"
    bits = colours.dtype.itemsize * 8 if palette else int(dataset.BitsStored)
    return np.asarray(colours >> max(0, bits - 8), np.uint8)


def _rules(dataset: Dataset, frame: int) -> Dataset:
    """Collect the elements that turn stored values into grey, an enhanced file's frame by frame."""
    from pydicom import Dataset

    rules = Dataset()
    sources = [dataset]
    for groups, index in zip(_GROUP_TAGS, (0, frame), strict=True):
        for group in (dataset.get(groups) or [])[index : index + 1]:
            for sequence in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
                sources += (group.get(sequence) or [])[:1]
    for source in sources:
        for keyword in (*_MODALITY_TAGS, *_VIEW_TAGS):
            if keyword in source:
                rules[keyword] = source[keyword]
    rules.file_meta = dataset.file_meta
    return rules


def _stored_view(rules: Dataset) -> Callable[[Array], Array] | None:
    """Return the stored lookup table, or the first stored window, as a function to 0..255; None if there is none."""
    if rules.get("VOILUTSequence"):
        return _lookup_view(rules)
    centres, widths = (_numbers(rules.get(keyword)) for keyword in ("WindowCenter", "WindowWidth"))
    if not centres or not widths or not math.isfinite(centres[0]) or not 1 <= widths[0] < math.inf:
        return None
    from pydicom import Dataset
    from pydicom.pixels.processing import apply_windowing

    view = Dataset()  # of an 8-bit picture, so that pydicom's output runs from 0 to 255
    view.PhotometricInterpretation, view.BitsStored, view.PixelRepresentation = "MONOCHROME2", 8, 0
    view.WindowCenter, view.WindowWidth = str(centres[0])[:16], str(widths[0])[:16]
    view.VOILUTFunction = rules.get("VOILUTFunction") or "LINEAR"
    return lambda values: apply_windowing(values, view)


def _lookup_view(rules: Dataset) -> Callable[[Array], Array]:
    from pydicom.pixels.processing import apply_voi

    entries, first, bits = (int(value) for value in rules.VOILUTSequence[0].LUTDescriptor)
    last = first + (entries or 2**16) - 1
    return lambda values: (
        apply_voi(np.clip(np.rint(values), first, last).astype(np.int64), rules) * (255 / (2**bits - 1))
    )


def _numbers(value: Any) -> list[float]:
    """Return an element's value or values as numbers."""
    if value is None or value == "":
        return []
    return [float(one) for one in (value if isinstance(value, Sequence) and not isinstance(value, str) else [value])]
