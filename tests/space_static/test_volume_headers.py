"""What the package refuses of NIfTI and of films by their headers, the page in the browser refuses too."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from nibabel.testing import data_path
from PIL import Image
from support.static_reading import agree, in_javascript, staged

from brain_mri.io.nifti import NO_SCAN
from brain_mri.io.volumes import read_slices


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return staged(tmp_path_factory.mktemp("static") / "page")


def _volume(
    shape: tuple[int, ...] = (24, 20, 6), version: int = 1, dtype: Any = np.int16, cut: int = 0, **fields: Any
) -> bytes:
    """A file whose header says `fields`, unchecked; `cut`: bytes that are missing at its end."""
    voxels = np.random.default_rng(0).integers(0, 120, shape).astype(dtype)
    kind = nibabel.Nifti1Image if version == 1 else nibabel.Nifti2Image
    header = kind(voxels, np.diag([-1.0, 1.0, 3.0, 1.0])).header
    header["magic"] = b"n+1" if version == 1 else b"n+2"
    header["vox_offset"] = offset = 352 if version == 1 else 544
    for name, value in fields.items():
        header[name] = value
    content: bytes = header.binaryblock.ljust(offset, b"\0") + voxels.tobytes(order="F")
    return content[: len(content) - cut]


_QFORM = {"sform_code": 0, "qform_code": 1}
_PIXDIM = [1, 1, 1, 3, 1, 1, 1, 1]
_READ_VOLUMES: dict[str, dict[str, Any]] = {
    "one volume": {},
    "two volumes": {"shape": (24, 20, 6, 2)},
    "many volumes": {"shape": (8, 6, 4, 30, 40)},
    "one of five dimensions": {"shape": (24, 20, 6, 1, 1)},
    "one slice": {"shape": (24, 20)},
    "cubes": {"shape": (24, 20, 22), "pixdim": [1] * 8},
    "dimensions that do not count": {
        "shape": (24, 20),
        "dim": [2, 24, 20, 9, 9, 1, 1, 1],
        "pixdim": [1, 1, 1, 9, 1, 1, 1, 1],
    },
    "bytes": {"dtype": np.uint8},
    "fractions": {"dtype": np.float64},
    "falling": {"scl_slope": -2, "scl_inter": 5},
    "an infinite slope": {"scl_slope": -np.inf, "scl_inter": np.nan},
    "labels": {"intent_code": 1002},
    "no orientation": {"sform_code": 0, "qform_code": 0},
    "a flat orientation": {"srow_x": [0, 0, 0, 0], "srow_y": [0, 2, 0, 0], "srow_z": [2, 0, 0, 0]},
    "no number in the position": {"srow_z": [3, 0, 0, np.inf], "srow_x": [0, 0, 1, 0]},
    "no number in the position of a qform": {
        **_QFORM,
        "quatern_b": 1,
        "quatern_c": 0,
        "quatern_d": 0,
        "qoffset_y": np.nan,
        "pixdim": _PIXDIM,
    },
    "sides below zero and no orientation": {"sform_code": 0, "qform_code": 0, "pixdim": [1, -1, 1, -3, 1, 1, 1, 1]},
    "a side of nothing": {"sform_code": 0, "qform_code": 0, "pixdim": [1, 1, 0, 3, 1, 1, 1, 1]},
    "no number in the orientation": {"srow_x": [np.nan, 0, 0, 0]},
    "qform": {**_QFORM, "quatern_b": 0.5, "quatern_c": -0.5, "quatern_d": 0.5, "pixdim": [-1, 1, 1, 3, 1, 1, 1, 1]},
    "qform of half a turn": {**_QFORM, "quatern_b": 1, "quatern_c": 0, "quatern_d": 0, "pixdim": _PIXDIM},
    "qform of another half": {**_QFORM, "quatern_b": 0, "quatern_c": 0, "quatern_d": 1.0000001, "pixdim": _PIXDIM},
}
_REFUSED_VOLUMES: dict[str, tuple[str, dict[str, Any]]] = {
    "cut off": ("broken", {"cut": 1}),
    "colours": ("nifti_kind", {"datatype": 128}),
    "complex": ("nifti_kind", {"datatype": 32}),
    "no dimensions": ("broken", {"dim": [0, 24, 20, 6, 1, 1, 1, 1]}),
    "no slices": ("broken", {"dim": [3, 24, 20, 0, 1, 1, 1, 1]}),
    "slices below zero": ("broken", {"dim": [3, 24, 20, -6, 1, 1, 1, 1]}),
    "too many slices": ("too_large", {"dim": [3, 2000, 1500, 1100, 1, 1, 1, 1]}),
    "a later first voxel": ("broken", {"vox_offset": 2**25}),
    "an earlier first voxel": ("broken", {"vox_offset": -16}),
    "a slope without an intercept": ("broken", {"scl_slope": 2, "scl_inter": np.nan}),
    "no quaternion": ("broken", {**_QFORM, "quatern_b": 1, "quatern_c": 1, "pixdim": _PIXDIM}),
    "sides below zero": ("broken", {**_QFORM, "pixdim": [1, -1, 1, 3, 1, 1, 1, 1]}),
    "no handedness": ("broken", {**_QFORM, "pixdim": [0, 1, 1, 3, 1, 1, 1, 1]}),
}


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("name", _READ_VOLUMES)
def test_a_volume_is_cut_as_the_package_does_with_its_notes(page: Path, name: str, version: int) -> None:
    if version == 2 and name == "qform of another half":
        pytest.skip("its numbers have more digits, and so it is no quaternion")
    assert not agree(page, _volume(version=version, **_READ_VOLUMES[name]))


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("name", _REFUSED_VOLUMES)
def test_what_the_package_refuses_of_nifti_the_page_refuses(page: Path, name: str, version: int) -> None:
    if version == 2 and name == "a later first voxel":
        pytest.skip("one case is enough")
    code, fields = _REFUSED_VOLUMES[name]
    assert agree(page, _volume(version=version, **fields)) == code


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("intent", [min(NO_SCAN), 3, 22, 24, 3001, max(NO_SCAN)])
def test_a_map_of_statistics_is_refused(page: Path, intent: int, version: int) -> None:
    assert agree(page, _volume(version=version, intent_code=intent)) == "nifti_map"


def test_a_packed_volume_of_several_is_read_with_a_note(page: Path) -> None:
    content = (Path(data_path) / "example4d.nii.gz").read_bytes()
    assert not agree(page, content)
    assert in_javascript(page, content)["notes"] == ["of 2 volumes in the file the first is read"]


def test_a_header_without_its_voxels_is_refused(page: Path) -> None:
    assert agree(page, _volume(magic=b"ni1"))


# -- pictures --


def _film(kind: str, frames: int, **options: Any) -> bytes:
    shades = [Image.new("RGB", (48, 48), (shade,) * 3) for shade in range(10, 10 + 60 * frames, 60)]
    file = io.BytesIO()
    several = {"save_all": True, "append_images": shades[1:]} if frames > 1 else {}
    shades[0].save(file, kind, icc_profile=np.random.default_rng(0).bytes(6000), **several, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {}), ("PNG", {"default_image": True}), ("WEBP", {"lossless": True})]
)
def test_a_film_behind_a_long_profile_is_not_answered_by_its_first_page(
    page: Path, kind: str, options: dict[str, Any]
) -> None:
    content = _film(kind, 3, **options)
    assert content.find(b"acTL" if kind == "PNG" else b"ANMF") > 4096
    assert len(read_slices(content).images) == 3
    assert in_javascript(page, content) == {"error": "several"}


@pytest.mark.parametrize("kind", ["GIF", "TIFF"])
@pytest.mark.parametrize("frames", [1, 3])
def test_what_browsers_would_show_the_first_page_of_is_no_kind_the_page_reads(
    page: Path, kind: str, frames: int
) -> None:
    assert in_javascript(page, _film(kind, frames)) == {"error": "unknown"}


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
def test_one_page_is_given_to_the_browser(page: Path, kind: str) -> None:
    assert in_javascript(page, _film(kind, 1)) == {"error": "broken"}  # by node, which decodes none
