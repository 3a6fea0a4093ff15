from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from pydicom.dataset import Dataset
from support.scans import AXIAL, changed, dicom, enhanced, head, item, placed, zipped

from brain_mri.errors import ImageError
from brain_mri.io.images import read_image
from brain_mri.io.slices import Slices
from brain_mri.io.volumes import read_slices


def _middles(slices: Slices) -> list[int]:
    return [int(np.asarray(image)[image.height // 2, image.width // 2, 0]) for image in slices.images]


def _rise(slices: Slices, count: int) -> None:
    middles = _middles(slices)
    assert len(middles) == count and middles == sorted(middles) and len(set(middles)) == count, middles


def _group(kind: str, z: float, window: tuple[float, float] = (450, 900), **more: object) -> Dataset:
    group = Dataset()
    group.MRImageFrameTypeSequence = item(FrameType=["ORIGINAL", "PRIMARY", "T1", kind[0]], ComplexImageComponent=kind)
    group.PlanePositionSequence = item(ImagePositionPatient=[0, 0, z])
    group.PlaneOrientationSequence = item(ImageOrientationPatient=AXIAL)
    group.FrameVOILUTSequence = item(WindowCenter=window[0], WindowWidth=window[1])
    for keyword, value in more.items():
        setattr(group, keyword, value)
    return group


@pytest.mark.parametrize("kind", ["PHASE", "REAL", "IMAGINARY"])
@pytest.mark.parametrize("narrow", [3, 7])
def test_of_an_enhanced_file_only_magnitude_is_read_in_order_of_place_and_in_a_window_of_its_own(
    kind: str, narrow: int
) -> None:
    noise = np.random.default_rng(0).integers(0, 4095, (8, 64, 64))
    order = [5, 2, 7, 0, 1, 6, 3, 4]
    groups = [_group("MAGNITUDE", 4.0 * k, (60, 30) if k == narrow else (450, 900)) for k in order]
    groups += [_group(kind, 4.0 * k, (0, 6284)) for k in range(8)]
    content = enhanced([head(64, 30 * k) for k in order] + [*noise], groups, ImageType=["ORIGINAL", "PRIMARY", "MIXED"])
    slices = read_slices(content)
    _rise(slices, 8)
    assert all((np.asarray(image) == 255).mean() < 0.3 for image in slices.images)
    assert any("(8)" in note and "magnitude" in note for note in slices.notes)


@pytest.mark.parametrize(
    "types",
    [
        ["ORIGINAL", "PRIMARY", "P", "ND"],
        ["ORIGINAL", "PRIMARY", "PHASE MAP", "P", "FFE"],
        ["ORIGINAL", "PRIMARY", "R_IR", "R", "IR"],
        ["DERIVED", "PRIMARY", "DIFFUSION", "ADC", "ND"],
        ["DERIVED", "SECONDARY", "FIELD_MAP"],
        ["DERIVED", "SECONDARY", "PROJECTION IMAGE", "CSA MIP"],
    ],
)
def test_classic_files_that_are_no_magnitude_are_left_out_and_alone_refused(types: list[str]) -> None:
    magnitude = {f"m{k}": placed(k, ImageType=["ORIGINAL", "PRIMARY", "M", "ND"]) for k in range(4)}
    other = {f"x{k}": placed(k, head()[::-1], ImageType=types) for k in range(6)}
    slices = read_slices(zipped(magnitude | other))
    _rise(slices, 4)
    assert any("(6)" in note for note in slices.notes)
    with pytest.raises(ImageError, match="no magnitude picture"):
        read_slices(other["x0"])


def test_ge_and_philips_tell_the_kind_in_private_elements() -> None:
    files = {str(k): placed(k) for k in range(3)}
    ge = {f"g{k}": changed(placed(k), (0x0043102F, "SS", 1)) for k in range(3)}
    philips = {f"p{k}": changed(placed(k), (0x20051011, "CS", "P")) for k in range(3)}
    for other in (ge, philips):
        slices = read_slices(zipped(files | other))
        _rise(slices, 3)
        assert any("phase (3)" in note for note in slices.notes)


@pytest.mark.parametrize("numbered", [True, False])
def test_each_echo_is_a_volume_of_its_own_also_without_echo_numbers(numbered: bool) -> None:
    files = {}
    for k in range(5):
        for echo in (1, 2, 3):
            told = {"EchoNumbers": echo} if numbered else {}
            files[f"{k}{echo}"] = placed(k, head(64, 30 * k), EchoTime=10.0 * echo, SeriesNumber=1, **told)
    slices = read_slices(zipped(files))
    _rise(slices, 5)
    assert [(one.slices, "echo" in one.description) for one in slices.series] == [(5, True)] * 3


def _repeated(order: Sequence[tuple[int, int]], **elements: object) -> dict[str, bytes]:
    return {
        f"{i:03}": placed(k, head(64, 30 * k), **{name: value(t, k) for name, value in elements.items()})  # type: ignore[operator]
        for i, (t, k) in enumerate(order)
    }


@pytest.mark.parametrize(
    "elements",
    [
        {"TemporalPositionIdentifier": lambda t, k: t + 1},
        {"AcquisitionNumber": lambda t, k: t + 1},
        {"AcquisitionTime": lambda t, k: f"1200{t:02}"},
        {"InstanceNumber": lambda t, k: 1 + 4 * t + k},
        {},
    ],
)
@pytest.mark.parametrize("by_place", [True, False])
def test_of_repeats_one_is_read_whatever_tells_them_apart(elements: dict[str, object], by_place: bool) -> None:
    order = [(t, k) for k in range(4) for t in range(5)] if by_place else [(t, k) for t in range(5) for k in range(4)]
    slices = read_slices(zipped(_repeated(order, **elements)))
    _rise(slices, 4)
    assert any("5 repeats" in note for note in slices.notes)


def test_of_a_dynamic_t1_with_a_contrast_agent_the_last_repeat_is_read() -> None:
    files = {}
    for t in range(3):
        for k in range(4):
            values = head(64, 30 * k) + (300 if t == 2 else 0) * (head() > 800)
            files[f"{t}{k}"] = placed(
                k,
                values,
                TemporalPositionIdentifier=t + 1,
                SeriesDescription="t1 vibe dyn",
                ContrastBolusAgent="Gadovist",
            )
    assert any("the last" in note for note in read_slices(zipped(files)).notes)


def test_a_volume_without_places_or_with_one_wrong_place_for_all_is_kept_whole() -> None:
    for place in ({"ImagePositionPatient": None, "ImageOrientationPatient": None}, {"ImagePositionPatient": [0, 0, 0]}):
        files = {str(k): placed(k, head(64, 30 * k), InstanceNumber=k + 1, **place) for k in range(6)}
        _rise(read_slices(zipped(files)), 6)
    film = dicom(
        np.stack([head(64, 30 * k) for k in range(6)]), ImagePositionPatient=[0, 0, 0], ImageOrientationPatient=AXIAL
    )
    _rise(read_slices(film), 6)


def test_an_element_that_differs_from_slice_to_slice_does_not_tear_a_volume_apart() -> None:
    files = {
        str(k): placed(
            k, head(64, 30 * k), EchoTime=3.4 + k / 100, AcquisitionNumber=k % 2, AcquisitionTime=f"12000{k}"
        )
        for k in range(8)
    }
    slices = read_slices(zipped(files))
    _rise(slices, 8)
    assert not slices.series


def test_slices_of_a_tilted_volume_stay_together_though_their_directions_are_rounded() -> None:
    files = {
        str(k): placed(k, head(64, 30 * k), ImageOrientationPatient=[0.995, 0.005 * (-1) ** k, 0.0999, 0, 1, 0])
        for k in range(6)
    }
    _rise(read_slices(zipped(files)), 6)


def test_one_slice_is_not_answered_for_a_film() -> None:
    film = dicom(np.stack([head()] * 3))
    assert read_image(film).size == (64, 64)
    with pytest.raises(ImageError, match="3 slices"):
        read_image(film, single=True)
