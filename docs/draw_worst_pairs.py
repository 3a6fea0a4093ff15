"""Draw docs/worst_pairs.png: what the audit shows of a folder whose test split holds copies of training images.

python docs/draw_worst_pairs.py

The images are SYNTHETIC phantoms, and the copies are planted: no patient is in the picture.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from PIL import Image, ImageEnhance, ImageOps

from brain_mri.leakage.audit import audit_folder
from brain_mri.leakage.report import worst_pairs_picture
from brain_mri.phantom.dataset import write_phantoms


def plant_copies(folder: Path) -> None:
    """Put changed copies of training images into the test split, one of them under another class."""
    glioma, meningioma, healthy, pituitary = (
        sorted((folder / "train" / label).iterdir())[0] for label in ("glioma", "meningioma", "no_tumor", "pituitary")
    )
    with Image.open(glioma) as one, Image.open(meningioma) as two, Image.open(healthy) as three:
        one.save(folder / "test/glioma/same_pixels.png")
        ImageOps.mirror(two).save(folder / "test/meningioma/mirrored.png")
        three.convert("L").resize((96, 96)).save(folder / "test/no_tumor/half_size.jpg", quality=50)
    with Image.open(pituitary) as four:
        ImageEnhance.Brightness(ImageOps.mirror(four)).enhance(0.8).save(folder / "test/glioma/other_class.png")


def main() -> None:
    """Write phantoms, plant copies, audit, draw."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = write_phantoms(Path(scratch) / "phantoms", 3, 3, seed=3, slices_per_patient=1)
        plant_copies(folder)
        report, _ = audit_folder(folder)
        worst_pairs_picture(report["worst_pairs"], folder, path := Path(__file__).with_name("worst_pairs.png"))
    with Image.open(path) as drawn:
        drawn.convert("L").save(path, optimize=True)


if __name__ == "__main__":
    main()
