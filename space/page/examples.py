"""What the page offers to try: pictures in `examples/`, and in a clone one real slice that nibabel brings along."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from brain_mri.io.volumes import read_slices
from page import pictures

_FOLDER = Path(__file__).resolve().parents[1] / "examples"
# A head, MR, among nibabel's own test files (MIT). Read where it is installed; no picture of it is kept here.
_REAL, _MIDDLE = "tests/data/example4d.nii.gz", 12

Files = list[tuple[str, str]]


@dataclass
class Offered:
    """Examples as (name, data URI).

    Attributes:
        examples: pictures.
        volumes: zips of slices.
        synthetic: whether they are the phantoms of a clone.
        real: whether a real slice is the first of them.
    """

    examples: Files
    volumes: Files
    synthetic: bool
    real: bool


def offered() -> Offered:
    """What `examples/` holds; where that is phantoms, the real slice before them."""
    shown = [(p.name, _uri(p, f"image/{p.suffix[1:]}")) for p in _those(".png", ".jpg")]
    volumes = [(p.name, _uri(p, "application/zip")) for p in _those(".zip")]
    synthetic = all(name.startswith("synthetic_") for name, _ in shown + volumes)
    real = _real_slice() if synthetic else []
    return Offered(real + shown, volumes, synthetic, bool(real))


def _those(*suffixes: str) -> list[Path]:
    return sorted(path for path in _FOLDER.glob("*") if path.suffix in suffixes)


def _uri(path: Path, kind: str) -> str:
    return pictures.data_uri(path.read_bytes(), kind)


def _real_slice() -> Files:
    volume = Path(str(files("nibabel"))) / _REAL
    if not volume.is_file():  # a distribution may leave out a package's tests
        return []
    return [("real_slice_from_nibabel.png", pictures.png_uri(read_slices(volume).images[_MIDDLE]))]
