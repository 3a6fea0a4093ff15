from __future__ import annotations

import numpy as np
import pydicom
import pytest
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from support.scans import changed, dicom, enhanced, head, item, zipped

from brain_mri.errors import ImageError
from brain_mri.io.images import read_image
from brain_mri.io.volumes import read_slices

_COUNT = 0x0019100A
_TYPE = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]


def _sheet(count: int, side: int, size: int = 32) -> np.ndarray:
    tiles = [head(size, 10 * k) if k < count else np.zeros((size, size), np.uint16) for k in range(side * side)]
    return np.vstack([np.hstack(tiles[row : row + side]) for row in range(0, side * side, side)])


def _mosaic(
    count: int, side: int, syntax: UID = ExplicitVRLittleEndian, told: bool = True, **elements: object
) -> bytes:
    content = dicom(_sheet(count, side), syntax, **{"ImageType": _TYPE, **elements})
    return changed(content, (_COUNT, "US", count)) if told else content


def _order(content: bytes) -> list[int]:
    slices = read_slices(content)
    middle = [np.asarray(image)[16, 16, 0] for image in slices.images]
    assert all(image.size == (32, 32) for image in slices.images)
    return np.argsort(middle).tolist()


@pytest.mark.parametrize(("count", "side"), [(9, 3), (5, 3), (2, 2), (13, 4), (16, 4), (48, 7)])
def test_a_mosaic_is_cut_into_as_many_slices_as_it_says(count: int, side: int) -> None:
    assert _order(_mosaic(count, side)) == list(range(count))


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian])
def test_a_mosaic_is_cut_in_every_plain_transfer_syntax(syntax: UID) -> None:
    assert _order(_mosaic(48, 7, syntax)) == list(range(48))


@pytest.mark.parametrize("count", [9, 7, 5])
def test_without_their_number_the_measured_matrix_tells_the_tiles_and_empty_ones_are_no_slices(count: int) -> None:
    assert _order(_mosaic(count, 3, told=False, AcquisitionMatrix=[32, 0, 0, 32])) == list(range(count))


def test_the_number_is_found_in_a_csa_header() -> None:
    name = b"NumberOfImagesInMosaic".ljust(64, b"\0")
    csa = b"SV10" + b"x" * 60 + name + bytes([1, 0, 0, 0]) + b"US\0\0" + bytes(12) + bytes(16) + b"13      "
    content = changed(_mosaic(13, 4, told=False), (0x00291010, "OB", csa))
    assert _order(content) == list(range(13))


def test_a_sheet_whose_tiles_do_not_fit_is_refused_with_the_converter() -> None:
    for content in (_mosaic(9, 3, told=False), changed(_mosaic(9, 3, told=False), (_COUNT, "US", 48))):
        with pytest.raises(ImageError, match="dcm2niix"):
            read_slices(content)


def test_an_enhanced_or_multi_frame_file_may_carry_the_word_and_is_none() -> None:
    groups = [pydicom.Dataset() for _ in range(4)]
    for k, group in enumerate(groups):
        group.PlanePositionSequence = item(ImagePositionPatient=[0, 0, 5 * k])
    frames = [head(64, 10 * k) for k in range(4)]
    for content in (enhanced(frames, groups, ImageType=_TYPE), dicom(np.stack(frames), ImageType=_TYPE)):
        slices = read_slices(content)
        assert [image.size for image in slices.images] == [(64, 64)] * 4
    one = enhanced(frames[:1], groups[:1], ImageType=_TYPE, AcquisitionMatrix=[32, 0, 0, 32])
    assert read_slices(one).images[0].size == (64, 64)


def test_of_a_series_of_mosaics_one_time_is_read_and_each_diffusion_weight_is_apart() -> None:
    times = {f"{t}": _mosaic(9, 3, InstanceNumber=t, AcquisitionNumber=t) for t in range(1, 6)}
    slices = read_slices(zipped(times))
    assert len(slices.images) == 9 and any("5 repeats" in note for note in slices.notes)
    weights = {str(b): _mosaic(9, 3, InstanceNumber=1 + b, SequenceName=f"ep_b{b}") for b in (0, 1000)}
    slices = read_slices(zipped(weights))
    assert len(slices.images) == 9 and [one.slices for one in slices.series] == [9, 9]


def test_one_slice_is_not_answered_for_a_mosaic() -> None:
    with pytest.raises(ImageError, match="9 slices"):
        read_image(_mosaic(9, 3), single=True)
