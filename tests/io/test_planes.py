from __future__ import annotations

from collections import Counter

import nibabel
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from support.scans import head, placed, zipped

from brain_mri.errors import ImageError
from brain_mri.io.slices import Slices
from brain_mri.io.volumes import read_slices


def _volume(shape: tuple[int, int, int], sides: tuple[float, float, float]) -> bytes:
    image = nibabel.Nifti1Image(np.zeros(shape, np.uint8), None)
    image.header["pixdim"][1:4] = sides
    image.header["sform_code"] = image.header["qform_code"] = 0
    return image.to_bytes()


def _planes(slices: Slices) -> dict[str, int]:
    return dict(Counter(name.split()[0] for name in slices.names))


@pytest.mark.parametrize(
    ("shape", "sides", "size"),
    [
        ((64, 60, 12), (1, 1, 5), (64, 60)),  # axial
        ((64, 12, 60), (1, 5, 1), (64, 60)),  # coronal
        ((12, 64, 60), (5, 1, 1), (64, 60)),  # sagittal
        ((12, 64, 60), (1.6, 0.8, 0.8), (64, 60)),
    ],
)
def test_thick_slices_are_cut_in_the_plane_of_acquisition_alone(
    shape: tuple[int, int, int], sides: tuple[float, float, float], size: tuple[int, int]
) -> None:
    slices = read_slices(_volume(shape, sides))
    assert [image.size for image in slices.images] == [size] * 12 and slices.names[0] == "slice 1 of 12"


def test_cubes_are_cut_in_all_planes() -> None:
    slices = read_slices(_volume((40, 50, 44), (1, 1, 1.2)))
    assert _planes(slices) == {"axial": 44, "coronal": 50, "sagittal": 40}
    assert {image.size for image in slices.images[:44]} == {(40, 50)}


@pytest.mark.parametrize("sides", [(1, 1, 1), (0, 0, 0), (1, 1, 1.3)])
def test_a_slab_is_never_cut_into_strips(sides: tuple[float, float, float]) -> None:
    content = _volume((64, 64, 8), sides)
    assert {image.size for image in read_slices(content).images} == {(64, 64)}
    with pytest.raises(ImageError, match="strips of 64 x 8"):
        read_slices(content, plane="coronal")


def test_the_user_may_choose_a_plane() -> None:
    content = _volume((40, 50, 44), (1, 1, 1))
    assert [len(read_slices(content, plane=plane).images) for plane in ("axial", "coronal", "sagittal", "all")] == [
        44,
        50,
        40,
        134,
    ]
    thick = read_slices(_volume((64, 60, 20), (1, 1, 3)), plane="sagittal")
    assert len(thick.images) == 64 and thick.images[0].size == (60, 60)  # stretched to true proportions
    with pytest.raises(ImageError, match="axial"):
        read_slices(content, plane="oblique")


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "ASL", "SRA"])
def test_each_plane_is_hung_as_a_radiologist_does_whatever_the_axes(codes: str) -> None:
    values = np.zeros((30, 31, 32), np.int16)  # right, front and top are where the indices are large
    values[29, 15, 15] = values[15, 30, 15] = values[15, 15, 31] = 100
    turn = ornt_transform(io_orientation(np.eye(4)), axcodes2ornt(codes))
    content = nibabel.Nifti1Image(values, np.eye(4)).as_reoriented(turn).to_bytes()

    def marks(plane: str, index: int) -> list[list[int]]:
        return np.argwhere(np.asarray(read_slices(content, plane=plane).images[index])[:, :, 0] > 0).tolist()

    assert marks("axial", 15) == [[0, 15 - 1], [15, 0]]  # front up; the patient's right on the viewer's left
    assert marks("coronal", 15) == [[0, 14], [16, 0]]  # head up; right on the left
    assert marks("sagittal", 15) == [[0, 15], [16, 0]]  # head up; front on the left


def test_thin_slices_of_dicom_are_cut_in_all_planes_and_the_acquired_ones_stay_as_they_came() -> None:
    thin = {f"{k:02}": placed(k, ImagePositionPatient=[0, 0, 1.0 * k], InstanceNumber=k + 1) for k in range(40)}
    slices = read_slices(zipped(thin))
    assert _planes(slices) == {"axial": 40, "coronal": 64, "sagittal": 64}
    alone = read_slices(zipped(thin), plane="axial")
    assert all(np.array_equal(slices.images[k], alone.images[k]) for k in range(40))
    front = np.asarray(slices.images[40 + 63 - 10])[:, :, 0]  # coronal, the 11th from the front
    assert front.shape == (40, 64)
    assert np.array_equal(front[0], np.asarray(alone.images[39])[10, :, 0])


def test_thick_slices_of_dicom_are_not_cut_anew() -> None:
    thick = {str(k): placed(k, head(), InstanceNumber=k + 1) for k in range(20)}
    assert len(read_slices(zipped(thick)).images) == 20
