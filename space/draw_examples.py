"""Draw the phantoms that the page offers as examples in a clone: `python space/draw_examples.py`.

In a published Space slices of a test split take their place, chosen by a publisher who has the right to show them.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from PIL import Image

from brain_mri.labels import LABELS
from brain_mri.phantom.dataset import draw_phantom

FOLDER = Path(__file__).resolve().parent / "examples"
SIZE = 192
SLICES = ("no_tumor", "no_tumor", "meningioma", "meningioma", "meningioma", "no_tumor", "no_tumor", "no_tumor")


def _png(label: str, seed: int, slice_index: int = 0, plane: str | None = None) -> bytes:
    file = io.BytesIO()
    image: Image.Image = draw_phantom(label, seed, SIZE, plane, slice_index).image
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def main() -> None:
    """Write one phantom of each class, and a zip of slices as a volume."""
    FOLDER.mkdir(exist_ok=True)
    for seed, label in enumerate(LABELS, 101):
        (FOLDER / f"synthetic_{label}.png").write_bytes(_png(label, seed))
    with zipfile.ZipFile(FOLDER / "synthetic_slices.zip", "w") as archive:
        for i, label in enumerate(SLICES):
            name = zipfile.ZipInfo(f"synthetic_slice_{i + 1}.png", (2026, 1, 1, 0, 0, 0))
            archive.writestr(name, _png(label, 110, i, "axial"))


if __name__ == "__main__":
    main()
