"""DICOM files of pydicom, to be read as if they were MR."""

from __future__ import annotations

import io

from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import MRImageStorage


def as_mr(name: str) -> bytes:
    """A file bundled with pydicom whose header says MR: else the pixels of other methods are never looked at."""
    dataset, buffer = dcmread(str(get_testdata_file(name, download=False))), io.BytesIO()
    dataset.Modality, dataset.SOPClassUID = "MR", MRImageStorage
    dataset.save_as(buffer)
    return buffer.getvalue()
