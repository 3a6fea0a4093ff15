"""Parsing untrusted DICOM files, with checks before their pixels are decoded. No torch.

Only the elements in `_TAGS` are kept. They describe the picture, not the patient; people write names into some of them
all the same, see `dicom_header`.
pydicom is imported inside the functions, so that reading a JPEG costs none of its time.
"""

from __future__ import annotations

import io
import zlib
from typing import TYPE_CHECKING, Any

from brain_mri.errors import ImageError, NotMRIError
from brain_mri.io.dicom_header import HEADER_TAGS, read_header
from brain_mri.io.frames import FRAME_TAGS, GROUP_TAGS
from brain_mri.io.headers import check_for_gdcm, check_frame
from brain_mri.io.mosaic import MOSAIC_TAGS
from brain_mri.io.untrusted import MAX_DICOM_BYTES, check_size, parsing

if TYPE_CHECKING:
    from pydicom import Dataset

_PICTURE_TAGS = (
    "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "Rows", "Columns", "NumberOfFrames",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths", "RedPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData", "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
)  # fmt: skip
MODALITY_TAGS = ("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence")
VIEW_TAGS = ("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence")
_SERIES_TAGS = ("SeriesInstanceUID", "SeriesNumber")
_PIXEL_TAGS = ("FloatPixelData", "DoubleFloatPixelData", "PixelData")
_TAGS = (
    *_PICTURE_TAGS,
    *MODALITY_TAGS,
    *VIEW_TAGS,
    *_SERIES_TAGS,
    *GROUP_TAGS,
    *HEADER_TAGS,
    *FRAME_TAGS,
    *MOSAIC_TAGS,
)
# Each costs pydicom some microseconds, so that a file of empty ones would take minutes. A frame of an enhanced file
# has about 100 elements, any other file some hundreds, and each takes two or three reads.
_MAX_READS = 500_000
_MAX_SEQUENCE_BYTES = 2**22  # of a sequence that is looked into: the groups of 1,024 frames take about 3 MiB
_MAX_FRAGMENTS = 2**14  # of compressed pixels: one or a few a frame
_PIXEL_GROUP = (b"\xe0\x7f", b"\x7f\xe0")  # of the pixel data's tag, in either byte order
_BY_GDCM = tuple(f"1.2.840.10008.1.2.4.{number}" for number in (57, 70, 80, 81))  # lossless JPEG, and JPEG-LS
_FRAGMENT = b"\xfe\xff\x00\xe0"


class _Counted(io.BytesIO):
    """Bytes that allow `_MAX_READS` reads."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        if self.reads > _MAX_READS:
            raise ValueError("more elements than a picture can need")
        return super().read(size)


def parse(content: bytes, label: str) -> Dataset:
    """Parse a DICOM file with its pixel data.

    Raises:
        ImageError: not DICOM, damaged, or larger when unpacked than `MAX_DICOM_BYTES`.
    """
    return _parse(content, label, pixels=True)[0]


def parse_header(content: bytes, label: str) -> tuple[Dataset, bool]:
    """Parse a DICOM file up to its pixel data; whether such data follows. Errors as `parse`."""
    return _parse(content, label, pixels=False)


def _parse(content: bytes, label: str, pixels: bool) -> tuple[Dataset, bool]:
    from pydicom import dcmread
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    with parsing(label, "DICOM file"):
        tags: list[Any] = [*_TAGS, *_PIXEL_TAGS]
        dataset = _inflated(content, tags, label)
        if dataset is None:
            file = _Counted(content)
            dataset = dcmread(file, force=True, specific_tags=tags, stop_before_pixels=not pixels)
            follows = content[file.tell() : file.tell() + 2] in _PIXEL_GROUP
        else:
            follows = any(keyword in dataset for keyword in _PIXEL_TAGS)
        if "TransferSyntaxUID" not in dataset.file_meta:
            implicit, little = dataset.original_encoding
            plain = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
            dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else plain
        _check_sequences(dataset)
        return dataset, follows


def _inflated(content: bytes, tags: list[Any], label: str) -> Dataset | None:
    """Parse a deflated file, which pydicom would inflate without a limit; None for other files."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.filereader import read_dataset
    from pydicom.tag import Tag
    from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

    file = _Counted(content)
    file.seek(132 if content[128:132] == b"DICM" else 0)
    meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return None
    body = zlib.decompressobj(-zlib.MAX_WBITS).decompress(file.read(), MAX_DICOM_BYTES + 1)
    if len(body) > MAX_DICOM_BYTES:
        raise ImageError(
            f"{label}: unpacks to more than {MAX_DICOM_BYTES >> 20} MiB; give a smaller file.", "too_large"
        )
    dataset = read_dataset(_Counted(body), False, True, specific_tags=[Tag(keyword) for keyword in tags])
    dataset.set_original_encoding(False, True)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def _check_sequences(dataset: Dataset) -> None:
    """Refuse sequences that pydicom would take long to convert."""
    for keyword in (*GROUP_TAGS, "ModalityLUTSequence", "VOILUTSequence"):
        stored = dataset.get_item(keyword)
        if stored is not None and isinstance(stored.value, bytes) and len(stored.value) > _MAX_SEQUENCE_BYTES:
            raise ValueError("a sequence longer than a picture can need")


def count_frames(dataset: Dataset, label: str) -> int:
    """How many frames a dataset has by its header; 0 without Rows and Columns.

    Raises:
        ImageError: these elements are damaged, or claim more than the limits allow.
    """
    with parsing(label, "DICOM file"):
        if "Rows" not in dataset or "Columns" not in dataset:
            return 0
        frames = int(dataset.get("NumberOfFrames") or 1)
        check_size(int(dataset.Columns), int(dataset.Rows), label, frames)
        return frames


def parse_with_pixels(content: bytes, label: str) -> tuple[Dataset, int]:
    """Parse a DICOM file, check its header and pixel data; returns the dataset and its number of slices.

    Raises:
        ImageError: no pixel data, no MR of a head by its header, damaged, or beyond the limits.
    """
    dataset = parse(content, label)
    frames = count_frames(dataset, label)
    if not frames or not any(keyword in dataset for keyword in _PIXEL_TAGS):
        raise ImageError(
            f"{label}: a DICOM file without pixel data (a report or an index); give one with a picture.", "no_scan"
        )
    if (foreign := read_header(dataset, label).foreign) is not None:
        raise NotMRIError(f"{label}: {foreign} by its header; give an MRI of the head.")
    check_frames(dataset, label)
    return dataset, frames


def check_frames(dataset: Dataset, label: str) -> None:
    """Compare every compressed frame with the file's header before it is decoded.

    Raises:
        ImageError: they differ, or the pixel data is damaged.
    """
    from pydicom.encaps import generate_frames

    with parsing(label, "DICOM file"):
        if not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
            return
        if dataset.PixelData.count(_FRAGMENT) > _MAX_FRAGMENTS:
            raise ValueError("more fragments than frames can need")
        frames = int(dataset.get("NumberOfFrames") or 1)
        for codestream in generate_frames(dataset.PixelData, number_of_frames=frames):
            check_frame(codestream, int(dataset.Rows), int(dataset.Columns), label)
            if dataset.file_meta.TransferSyntaxUID in _BY_GDCM:
                check_for_gdcm(codestream, int(dataset.SamplesPerPixel), int(dataset.BitsAllocated), label)
