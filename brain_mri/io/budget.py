"""What all files of one request may take together: each file has its limits, and many are too much. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from brain_mri.errors import ImageError
from brain_mri.io.slices import Slices
from brain_mri.io.untrusted import MAX_SLICES, MAX_VOXELS

SECONDS = 30.0  # as long as 1,024 slices are judged


class BudgetError(ImageError):
    """Files that are not read because those before them have used up what a request may take."""

    def __init__(self, what: str) -> None:
        super().__init__(f"together these files need more {what} than one request may take; send fewer.", "too_many")


@dataclass
class Budget:
    """What is left for the files of a request that have not been read yet.

    Attributes:
        seconds: of processor time for reading.
        slices: that may be judged.
        pixels: of all these slices.
    """

    seconds: float = SECONDS
    slices: int = MAX_SLICES
    pixels: int = MAX_VOXELS

    def check(self) -> None:
        """Look whether anything is left.

        Raises:
            BudgetError: no.
        """
        if self.seconds <= 0:
            raise BudgetError("time")
        if min(self.slices, self.pixels) <= 0:
            raise BudgetError("slices or pixels")

    def spend(self, seconds: float) -> None:
        """Take away the processor time that reading a file took."""
        self.seconds -= seconds

    def take(self, found: Slices) -> None:
        """Take away the slices of a file.

        Raises:
            BudgetError: they are more than what is left.
        """
        self.slices -= len(found.names)
        self.pixels -= found.pixels
        if min(self.slices, self.pixels) < 0:
            raise BudgetError("slices or pixels")
