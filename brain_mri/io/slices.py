"""What is read of a user's file: its slices, and the series that it was taken from. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

from PIL import Image

from brain_mri.io.windowing import Bytes

PLANES = ("axial", "coronal", "sagittal")
PLANE_CHOICES = ("auto", *PLANES, "all")


class SliceImages(Sequence[Image.Image]):
    """Pictures stored with 1 byte a pixel (3 in colour) and returned in mode RGB, where Pillow needs 4."""

    def __init__(self, pixels: Sequence[Bytes]) -> None:
        self._pixels = tuple(pixels)

    @property
    def pixels(self) -> tuple[Bytes, ...]:
        """The pictures as they are stored, (H, W) or (H, W, 3)."""
        return self._pixels

    def __len__(self) -> int:
        return len(self._pixels)

    @overload
    def __getitem__(self, index: int) -> Image.Image: ...
    @overload
    def __getitem__(self, index: slice) -> SliceImages: ...
    def __getitem__(self, index: int | slice) -> Image.Image | SliceImages:
        if isinstance(index, slice):
            return SliceImages(self._pixels[index])
        return Image.fromarray(self._pixels[index]).convert("RGB")


@dataclass(frozen=True)
class Series:
    """One of the series, volumes or sets of pictures that a file or folder holds.

    Attributes:
        number: from 1, what `--series` takes.
        description: the words of the header's description that are known words of this trade (a name is none), or a
            file's own name.
        sequence: in words of `io.sequences`, such as "T1, contrast-enhanced"; empty where it is not known.
        plane: `axial`, `coronal`, `sagittal`; empty where it is not known.
        slices: how many.
        chosen: whether this is the one that was read.
    """

    number: int
    description: str
    sequence: str
    plane: str
    slices: int
    chosen: bool = False

    def __str__(self) -> str:
        count = f"{self.slices} slice{'s' if self.slices != 1 else ''}"
        told = ", ".join(part for part in (self.sequence or "sequence not known", self.plane, count) if part)
        return f"{self.number}: {self.description} ({told})" if self.description else f"{self.number}: {told}"

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return dict(vars(self))


@dataclass(frozen=True)
class Slices:
    """The slices of a user's file or folder, in order.

    Attributes:
        images: a sequence of pictures in mode RGB, created at every access.
        names: of each slice: the file's own name for pictures, "slice 12 of 24" in a volume, "axial 12 of 24" in one
            that is cut in several planes. None comes from a header, which may name patients.
        is_volume: whether there are several slices, assumed to be of one patient, or one beside others that are lost.
        kind: `picture`, `dicom`, `nifti` (and other formats of volumes) or `archive`.
        notes: what a reader of the answer should know of the files, a sentence each without its full stop: a sequence
            in which the model has seen no tumours, what was left out. Nothing comes from a header but the fixed words
            of `dicom_header` and `sequences`.
        series: all that the file or folder holds, where it is more than one.
        lost: how many files or slices were given that may belong to them, but could not be read. "No tumour" is not
            said of the whole then.
    """

    images: SliceImages
    names: tuple[str, ...]
    is_volume: bool
    kind: str
    notes: tuple[str, ...] = ()
    series: tuple[Series, ...] = ()
    lost: int = 0

    @property
    def pixels(self) -> int:
        """Of all slices together."""
        return sum(one.shape[0] * one.shape[1] for one in self.images.pixels)
