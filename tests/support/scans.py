"""Scans as scanners write them, drawn by numpy: heads, and the DICOM files that hold them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

AXIAL = [1, 0, 0, 0, 1, 0]


def head(side: int = 64, mark: int = 0) -> np.ndarray:
    """A head, uint16 of shape (side, side), whose middle pixels have a value of their own."""
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    radius = (x / 0.72) ** 2 + (y / 0.88) ** 2
    values = np.where(radius < 1, 500, 0)
    values[(radius > 0.86) & (radius < 1)] = 900
    middle = slice(side // 2 - 2, side // 2 + 2)
    values[middle, middle] = 100 + mark
    return values.astype(np.uint16)


def dicom(values: np.ndarray | None, syntax: UID = ExplicitVRLittleEndian, **elements: object) -> bytes:
    """A DICOM file: `values` uint16, (rows, columns) or (frames, rows, columns); None for one without pixels."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID, dataset.SOPInstanceUID = MRImageStorage, generate_uid()
    dataset.Modality, dataset.SeriesInstanceUID = "MR", "1.2.3"
    if values is not None:
        dataset.Rows, dataset.Columns = values.shape[-2:]
        if values.ndim == 3:
            dataset.NumberOfFrames = len(values)
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit = 15
        order = "<u2" if syntax.is_little_endian else ">u2"
        dataset.PixelData = values.astype(order).tobytes()
        dataset["PixelData"].VR = "OW"
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return written(dataset)


def written(dataset: Dataset) -> bytes:
    """A dataset as a file."""
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def changed(content: bytes, *private: tuple[int, str, object], **elements: object) -> bytes:
    """A file with other elements; private ones as (tag, VR, value)."""
    dataset = pydicom.dcmread(io.BytesIO(content))
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    for tag, vr, value in private:
        dataset.add_new(tag, vr, value)
    return written(dataset)


def placed(k: int, values: np.ndarray | None = None, **elements: object) -> bytes:
    """A slice at the k-th place of an axial series; its middle pixels are `100 + 10 * k`."""
    values = head(mark=10 * k) if values is None else values
    place = {"ImageOrientationPatient": AXIAL, "ImagePositionPatient": [0, 0, 5 * k], "PixelSpacing": [1, 1]}
    return dicom(values, **{**place, **elements})


def item(**elements: object) -> list[Dataset]:
    """A sequence of one item."""
    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return [dataset]


def enhanced(values: Sequence[np.ndarray], groups: Sequence[Dataset], **elements: object) -> bytes:
    """An enhanced file: a frame and its functional groups each."""
    told = {"SOPClassUID": EnhancedMRImageStorage, "PerFrameFunctionalGroupsSequence": list(groups)}
    return dicom(np.stack(values), **{**told, **elements})


def zipped(files: Mapping[str, bytes]) -> bytes:
    """A zip of files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()
