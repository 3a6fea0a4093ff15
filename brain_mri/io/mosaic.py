"""Siemens mosaics: a volume stored as one picture, its slices side by side as tiles. No torch."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from brain_mri.io.windowing import Array

if TYPE_CHECKING:
    from pydicom import Dataset

SIEMENS_COUNT, SIEMENS_CSA = 0x0019100A, 0x00291010
MOSAIC_TAGS: tuple[str | int, ...] = ("AcquisitionMatrix", SIEMENS_COUNT, SIEMENS_CSA)
_ENHANCED = re.compile(r"1\.2\.840\.10008\.5\.1\.4\.1\.1\.4\.[1-9]")
_CSA_NAME = b"NumberOfImagesInMosaic\0"
_CSA_VALUE = slice(84, 132)  # bytes after the name's start: behind the name, its type and the length
_MOST_TILES = 1024
UNREADABLE = "Siemens mosaic whose tiles can't be told apart: convert it with dcm2niix"


@dataclass(frozen=True)
class Tile:
    """A part of a picture, pixels from its top left corner; `right` and `bottom` are outside."""

    left: int
    top: int
    right: int
    bottom: int
    may_be_empty: bool  # the last ones are, where the number of slices is not told

    def of(self, picture: Array) -> Array:
        """This part of a picture of shape (rows, columns)."""
        return picture[self.top : self.bottom, self.left : self.right]


def tiles_of(dataset: Dataset) -> list[Tile]:
    """The tiles of a mosaic, row by row, which is the order of its slices; none where their number can't be told."""
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    told = _told(dataset)
    side = math.isqrt(told - 1) + 1 if told else _side_by_matrix(dataset, rows, columns)
    if not side or rows % side or columns % side:
        return []
    height, width = rows // side, columns // side
    return [
        Tile(c * width, r * height, (c + 1) * width, (r + 1) * height, not told)
        for r in range(side)
        for c in range(side)
        if not told or r * side + c < told
    ]


def is_mosaic(dataset: Dataset, frames: int) -> bool:
    """Whether a file is a mosaic: an enhanced or multi-frame file may carry the word, and is none."""
    types: Any = dataset.get("ImageType") or ()
    words = [types] if isinstance(types, str) else list(types)
    if "MOSAIC" not in [str(word).upper().strip() for word in words] or frames != 1:
        return False
    enhanced = _ENHANCED.match(str(dataset.get("SOPClassUID") or ""))
    return not enhanced and "PerFrameFunctionalGroupsSequence" not in dataset


def _told(dataset: Dataset) -> int | None:
    from brain_mri.io.frames import private_number

    found = private_number(dataset, SIEMENS_COUNT)
    if found is None and (csa := dataset.get(SIEMENS_CSA)) is not None and isinstance(csa.value, bytes):
        at = csa.value.find(_CSA_NAME)
        digits = re.search(rb"\d+", csa.value[at:][_CSA_VALUE]) if at >= 0 else None
        found = int(digits[0]) if digits else None
    return int(found) if found and 1 <= found <= _MOST_TILES else None


def _side_by_matrix(dataset: Dataset, rows: int, columns: int) -> int | None:
    """Tiles along a side, by the matrix that was measured, which each tile is as large as."""
    matrix = [int(value) for value in dataset.get("AcquisitionMatrix") or () if int(value) > 0]
    for length in sorted(set(matrix), reverse=True):
        for side, over in ((columns // length, columns % length), (rows // length, rows % length)):
            if 1 < side <= math.isqrt(_MOST_TILES) and not over and not rows % side and not columns % side:
                return side
    return None
