"""Draw docs/phantoms.png, the README's picture: SYNTHETIC phantoms of the four classes in three planes.

python docs/draw_phantoms.py
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from brain_mri.labels import LABELS
from brain_mri.phantom.dataset import PLANES, draw_phantom

_SIZE = 160


def main() -> None:
    """Write one row of phantoms: for each class another plane first, all from seed 3."""
    shown = [(label, plane) for label in LABELS for plane in PLANES[:2]]
    sheet = Image.new("L", (_SIZE * len(shown), _SIZE))
    for column, (label, plane) in enumerate(shown):
        sheet.paste(draw_phantom(label, seed=3 + column, size=_SIZE, plane=plane).image, (column * _SIZE, 0))
    sheet.save(Path(__file__).with_name("phantoms.png"), optimize=True)


if __name__ == "__main__":
    main()
