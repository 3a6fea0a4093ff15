from __future__ import annotations

import gzip
import io
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel.testing import data_path
from support.scans import head, zipped

from brain_mri.errors import ImageError
from brain_mri.io.volumes import read_slices

_VOLUME = np.stack([head(64, 10 * k) for k in range(12)], axis=-1).astype(np.int16)
_AFFINE = np.diag([1.0, 1.0, 5.0, 1.0])
_DATA = Path(data_path)


def _same_as_nifti(found: object) -> None:
    expected = read_slices(nibabel.Nifti1Image(_VOLUME, _AFFINE).to_bytes())
    assert len(found.images) == 12  # type: ignore[attr-defined]
    assert all(np.array_equal(a, b) for a, b in zip(found.images, expected.images, strict=True))  # type: ignore[attr-defined]


def test_freesurfer_is_read_packed_or_not() -> None:
    content = nibabel.MGHImage(_VOLUME.astype(np.int32), _AFFINE).to_bytes()
    _same_as_nifti(read_slices(content))
    _same_as_nifti(read_slices(gzip.compress(content), "brain.mgz"))
    with pytest.raises(ImageError, match="before its last voxel"):
        read_slices(content[: len(content) // 2])


@pytest.mark.parametrize("kind", [nibabel.Spm99AnalyzeImage, nibabel.Nifti1Pair, nibabel.Nifti2Pair])
def test_a_pair_of_files_is_read_by_either_name_and_in_a_zip(kind: type, tmp_path: Path) -> None:
    nibabel.save(kind(_VOLUME, _AFFINE), tmp_path / "brain.img")
    (tmp_path / "brain.mat").unlink(missing_ok=True)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for found in (
        *(read_slices(tmp_path / name) for name in ("brain.hdr", "brain.img")),
        *(read_slices(tmp_path / name, "patient 1") for name in ("brain.hdr", "brain.img")),
        read_slices(tmp_path),
        read_slices(zipped(files)),
    ):
        assert len(found.images) == 12 and found.images[0].size == (64, 64)
        assert np.asarray(found.images[5]).std() > 20
    for name in files:
        with pytest.raises(ImageError, match="together"):
            read_slices(files[name], name)


@pytest.mark.parametrize("packed", [("brain.hdr", "brain.img"), ("brain.img",)])
def test_a_pair_of_files_is_read_packed_by_either_name_and_in_a_zip(packed: tuple[str, ...], tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Pair(_VOLUME, _AFFINE), tmp_path / "brain.img")
    for name in packed:
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress((tmp_path / name).read_bytes()))
        (tmp_path / name).unlink()
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for source in (*(tmp_path / name for name in files), tmp_path, zipped(files)):
        _same_as_nifti(read_slices(source))
    for name in files:
        with pytest.raises(ImageError, match="together"):
            read_slices(files[name], name)


def test_minc_1_is_read_and_minc_2_is_named_with_its_converter() -> None:
    slices = read_slices(_DATA / "tiny.mnc")
    volume = np.asarray(nibabel.load(_DATA / "tiny.mnc").dataobj)  # z, y, x
    axial = np.asarray(slices.images[3])[:, :, 0].astype(float)
    assert np.corrcoef(axial.ravel(), volume[3, ::-1, ::-1].ravel())[0, 1] > 0.99
    with pytest.raises(ImageError, match="mnc2nii"):
        read_slices(_DATA / "small.mnc")


@pytest.mark.parametrize("name", ["phantom_EPI_asc_CLEAR_2_1", "phantom_varscale"])
def test_par_and_rec_are_read_together(name: str, tmp_path: Path) -> None:
    slices = read_slices(_DATA / f"{name}.PAR")
    volume = nibabel.as_closest_canonical(nibabel.load(_DATA / f"{name}.PAR", scaling="dv"))
    assert len(slices.images) == 9 and any("3 repeats" in note for note in slices.notes)
    shown = np.asarray(slices.images[4])[:, :, 0].ravel()
    assert np.corrcoef(shown, np.asarray(volume.dataobj)[::-1, ::-1, 4, 0].T.ravel())[0, 1] > 0.9
    for ending in (".PAR", ".REC"):
        shutil.copy(_DATA / f"{name}{ending}", tmp_path / f"Scan{ending.lower()}")
    assert len(read_slices(tmp_path).images) == 9
    (tmp_path / "Scan.rec").unlink()
    with pytest.raises(ImageError, match=r"\.rec"):
        read_slices(tmp_path)


def test_of_mixed_par_and_rec_only_magnitude_of_the_first_echo_is_read(tmp_path: Path) -> None:
    par = (_DATA / "T1_3echo_mag_real_imag_phase.PAR").read_text()
    lines = [line.split() for line in par.splitlines() if line[:1] == " " or line[:1].isdigit()]
    lines = [line for line in lines if len(line) > 40]
    side = int(lines[0][9])
    rec = np.zeros((len(lines), side, side), "<u2")
    for line in lines:  # slice number in magnitude of the first echo, noise elsewhere
        first = line[1] == "1" and line[4] == "0"
        rec[int(line[6])] = int(line[0]) if first else 4000
    shutil.copy(_DATA / "T1_3echo_mag_real_imag_phase.PAR", tmp_path / "a.PAR")
    (tmp_path / "a.REC").write_bytes(rec.tobytes())
    slices = read_slices(tmp_path / "a.PAR", plane="auto")
    said = " ".join(slices.notes)
    assert "phase" in said and "real" in said and "3 echoes" in said
    assert max(np.asarray(image).max() for image in slices.images) > 0
    assert len({int(np.asarray(image)[9, 9, 0]) for image in slices.images}) > 3


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("example4d+orig.HEAD", "3dAFNItoNIFTI"),
        ("scaled+tlrc.BRIK", "3dAFNItoNIFTI"),
        ("tinypet.v", "PET"),
        ("minc2_4d.mnc", "mnc2nii"),
    ],
)
def test_a_format_that_is_not_read_is_named_with_the_way_out(name: str, said: str) -> None:
    with pytest.raises(ImageError, match=said):
        read_slices(_DATA / name)


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"NRRD0005\n", "NRRD"),
        (b"ObjectType = Image\n", "MetaImage"),
        (b"\x93NUMPY\1\0", "NIfTI"),
        (bytes(257) + b"ustar", "tar"),
        (
            b'<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE GIFTI SYSTEM "gifti.dtd">\n<GIFTI Version="1.0">',
            "surface",
        ),
    ],
)
def test_other_formats_are_named_by_their_first_bytes(head: bytes, said: str) -> None:
    with pytest.raises(ImageError, match=said):
        read_slices(head + bytes(600))


def test_gzip_has_a_limit_and_nothing_is_nested() -> None:
    bomb = gzip.compress(bytes(2**27 + 2**20))
    with pytest.raises(ImageError, match="128 MiB"):
        read_slices(bomb)
    with pytest.raises(ImageError):
        read_slices(gzip.compress(gzip.compress(b"x" * 1000)))


def test_of_several_volumes_in_a_file_the_first_is_read_and_said() -> None:
    four = np.stack([_VOLUME, _VOLUME[::-1]], axis=-1)
    for content in (
        nibabel.Nifti1Image(four, _AFFINE).to_bytes(),
        nibabel.MGHImage(four.astype(np.int32), _AFFINE).to_bytes(),
    ):
        slices = read_slices(content)
        assert any("2 volumes" in note for note in slices.notes)
        _same_as_nifti(slices)


def test_a_big_endian_volume_is_read_as_a_little_endian_one() -> None:
    image = nibabel.Nifti1Image(_VOLUME, _AFFINE)
    header = image.header.copy()
    header["vox_offset"] = 352
    header = header.as_byteswapped(">")
    buffer = io.BytesIO()
    buffer.write(header.binaryblock + bytes(4) + _VOLUME.astype(">i2").tobytes(order="F"))
    _same_as_nifti(read_slices(buffer.getvalue()))
