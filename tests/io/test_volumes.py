from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from nibabel.testing import data_path
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from support.dicom_files import as_mr

from brain_mri.errors import ImageError
from brain_mri.io.images import read_image
from brain_mri.io.volumes import read_slices

_COMPRESSED = ["MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm"]
_UNCOMPRESSED = ["MR_small_bigendian.dcm", "MR_small_implicit.dcm", "MR_small_expb.dcm", "MR_small_padded.dcm"]


def _bundled(name: str) -> Path:
    path = get_testdata_file(name, download=False)
    assert path, f"pydicom does not bundle {name} any more"
    return Path(str(path))


def _grey(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image)
    assert pixels.dtype == np.uint8 and np.array_equal(pixels[:, :, 0], pixels[:, :, 2])
    return pixels[:, :, 0]


def _written(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _dicom(values: np.ndarray, **elements: object) -> bytes:
    """Write a DICOM slice: `values` of shape (rows, columns) or (frames, rows, columns), uint16."""
    dataset = Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", generate_uid()
    dataset.PatientName, dataset.PatientID = "Doe^Jane", "12345"
    if values.ndim == 3:
        dataset.NumberOfFrames = len(values)
    dataset.Rows, dataset.Columns = values.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelData = values.astype("<u2").tobytes()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return _written(dataset)


def _series(count: int, make: Callable[[int], dict[str, object]] = lambda i: {}) -> dict[str, bytes]:
    """Write `count` slices; slice i has the value 100 * i left, and 4000 right, so that all share black and white."""
    files = {}
    for i in range(count):
        values = np.full((8, 8), 100 * i, np.uint16)
        values[:, 4:] = 4000
        files[f"IM{i}"] = _dicom(values, SeriesInstanceUID="1.2.3", **make(i))
    return files


def _zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _lefts(content: bytes | Path) -> list[int]:
    """Read the left half's grey of each slice of `_series`, in order."""
    return [int(_grey(image)[0, 0]) for image in read_slices(content).images]


@pytest.mark.parametrize("name", [*_COMPRESSED, *_UNCOMPRESSED])
def test_every_encoding_of_a_real_slice_gives_the_same_picture(name: str) -> None:
    expected = _grey(read_image(_bundled("MR_small.dcm")))
    assert expected.max() == 255 and expected.std() > 20
    assert np.array_equal(_grey(read_image(_bundled(name))), expected)


def test_the_stored_window_is_the_one_that_is_shown() -> None:
    dataset = pydicom.dcmread(_bundled("MR_small.dcm"))
    centre, width = float(dataset.WindowCenter), float(dataset.WindowWidth)
    grey = ((dataset.pixel_array - (centre - 0.5)) / (width - 1) + 0.5) * 255  # PS3.3 C.11.2.1.2
    assert np.abs(_grey(read_image(_bundled("MR_small.dcm"))) - np.clip(grey, 0, 255)).max() <= 0.5


@pytest.mark.parametrize("name", ["JPEG2000.dcm", "JPEGLSNearLossless_16.dcm", "693_J2KI.dcm"])
def test_lossy_encodings_of_real_slices_are_read(name: str) -> None:
    image = read_image(as_mr(name))
    dataset = pydicom.dcmread(_bundled(name))
    assert image.size == (dataset.Columns, dataset.Rows)
    correlation = np.corrcoef(_grey(image).ravel(), np.clip(dataset.pixel_array.ravel(), None, 4000))[0, 1]
    assert correlation > 0.5 and _grey(image).std() > 20


def test_colour_of_every_kind_comes_out_as_rgb() -> None:
    plain = np.asarray(read_image(_bundled("SC_rgb_small_odd.dcm")))
    assert np.array_equal(plain, pydicom.dcmread(_bundled("SC_rgb_small_odd.dcm")).pixel_array)
    bars = np.asarray(read_image(_bundled("SC_rgb_rle.dcm"))).astype(int)
    for name in ("SC_rgb_rle_16bit.dcm", "SC_rgb_rle_32bit.dcm", "SC_rgb_jpeg_gdcm.dcm"):
        assert np.abs(np.asarray(read_image(_bundled(name))) - bars).max() <= 1, name
    for name in ("SC_rgb_dcmtk_+eb+cy+np.dcm", "SC_ybr_full_422_uncompressed.dcm"):
        assert np.abs(np.asarray(read_image(_bundled(name))) - bars).mean() < 3, name
    assert np.asarray(read_image(as_mr("examples_palette.dcm"))).std(axis=2).max() > 0


def test_monochrome1_is_inverted() -> None:
    values = np.arange(64, dtype=np.uint16).reshape(8, 8) * 10
    plain, inverse = (_grey(read_image(_dicom(values, PhotometricInterpretation=f"MONOCHROME{k}"))) for k in (2, 1))
    assert np.array_equal(plain, 255 - inverse) and plain[-1, -1] == 255 and plain[0, 0] == 0


def test_rescaling_comes_before_the_window() -> None:
    values = np.arange(64, dtype=np.uint16).reshape(8, 8)
    plain = _dicom(values, WindowCenter="32", WindowWidth="32")
    scaled = _dicom(values, RescaleSlope="10", RescaleIntercept="-100", WindowCenter="215.5", WindowWidth="311")
    assert np.array_equal(_grey(read_image(plain)), _grey(read_image(scaled)))


def test_of_several_windows_the_first_counts() -> None:
    values = np.arange(64, dtype=np.uint16).reshape(8, 8)
    one, several = (
        _dicom(values, WindowCenter=centres, WindowWidth=widths)
        for centres, widths in (("20", "10"), (["20", "500"], ["10", "1"]))
    )
    assert np.array_equal(_grey(read_image(one)), _grey(read_image(several)))
    assert len(np.unique(_grey(read_image(one)))) < 12


@pytest.mark.parametrize("function", ["SIGMOID", "LINEAR_EXACT", "nonsense"])
def test_the_functions_of_a_window_rise_from_black_to_white(function: str) -> None:
    values = np.arange(64, dtype=np.uint16).reshape(8, 8)
    grey = _grey(read_image(_dicom(values, WindowCenter="32", WindowWidth="16", VOILUTFunction=function))).ravel()
    assert np.all(np.diff(grey.astype(int)) >= 0) and grey[0] < 3 and grey[-1] > 252 and 100 < grey[32] < 160


def test_a_stored_lookup_table_is_applied() -> None:
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [64, 0, 16], list(range(0, 64 * 1000, 1000))[::-1]
    table["LUTDescriptor"].VR = table["LUTData"].VR = "US"
    values = np.arange(64, dtype=np.uint16).reshape(8, 8)
    grey = _grey(read_image(_dicom(values, VOILUTSequence=[table])))
    assert np.abs(grey.ravel() - np.arange(64)[::-1] * 1000 * 255 / 65535).max() <= 0.5


@pytest.mark.parametrize("width", ["0", None])
def test_without_a_usable_window_the_percentiles_are_black_and_white(width: str | None) -> None:
    values = np.random.default_rng(0).normal(1000, 100, (64, 64)).round().astype(np.uint16)
    values[0, 0] = 60000  # one bright pixel must not darken all others
    grey = _grey(read_image(_dicom(values, **({"WindowWidth": width, "WindowCenter": "0"} if width else {}))))
    low, high = np.percentile(values, [1, 99])
    assert np.abs(grey - np.clip((values - low) / (high - low) * 255, 0, 255)).max() <= 0.5


def test_an_enhanced_files_rules_are_found_in_its_groups() -> None:
    values = np.arange(64, dtype=np.uint16).reshape(8, 8)
    window, group = Dataset(), Dataset()
    window.WindowCenter, window.WindowWidth = "20", "10"
    group.FrameVOILUTSequence = [window]
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        found = read_image(_dicom(values, **{groups: [group]}))
        assert np.array_equal(_grey(found), _grey(read_image(_dicom(values, WindowCenter="20", WindowWidth="10"))))


def test_a_film_is_one_volume_in_one_window() -> None:
    values = np.stack([np.full((8, 8), value, np.uint16) for value in (0, 100, 200, 500)])
    slices = read_slices(_dicom(values))
    assert [int(_grey(image)[0, 0]) for image in slices.images] == [0, 51, 102, 255]
    assert slices.names == ("slice 1 of 4", "slice 2 of 4", "slice 3 of 4", "slice 4 of 4")
    assert slices.is_volume and slices.kind == "dicom"


def test_a_zip_of_slices_is_sorted_by_position_whatever_their_names_and_numbers() -> None:
    axes = [1, 0, 0, 0, 1, 0]
    files = _series(12, lambda i: {
        "ImagePositionPatient": [0, 0, -60 + 5 * i], "ImageOrientationPatient": axes, "InstanceNumber": 99 - i
    })  # fmt: skip
    shuffled = dict(sorted(files.items(), key=lambda item: hash(item[1])))
    lefts = _lefts(_zip(shuffled))
    assert lefts == sorted(lefts) and len(set(lefts)) == 12
    slices = read_slices(_zip(shuffled))
    assert slices.is_volume and slices.kind == "archive" and slices.names[11] == "slice 12 of 12"


def test_without_positions_the_instance_numbers_sort_and_without_these_the_names() -> None:
    by_number = _lefts(_zip(_series(4, lambda i: {"InstanceNumber": 10 - i})))
    assert by_number == sorted(by_number, reverse=True)
    by_name = _lefts(_zip(_series(12)))  # IM10 after IM9
    assert by_name == sorted(by_name)


def test_all_slices_of_a_series_share_one_window() -> None:
    windows = _series(5, lambda i: {"WindowCenter": str(1000 + 700 * i), "WindowWidth": "2000"})
    lefts = _lefts(_zip(windows))
    expected = [np.clip(((100 * i - 2399.5) / 1999 + 0.5) * 255, 0, 255) for i in range(5)]
    assert np.abs(np.array(lefts) - expected).max() <= 0.5


def test_of_several_series_the_largest_is_read() -> None:
    small = {f"B/{name}": content for name, content in _series(2).items()}
    for name, content in small.items():
        dataset = pydicom.dcmread(io.BytesIO(content))
        dataset.SeriesInstanceUID = "9.9"
        small[name] = _written(dataset)
    assert len(read_slices(_zip(small | _series(3))).images) == 3


def test_a_folder_is_read_like_a_zip_and_other_files_are_passed_over(tmp_path: Path) -> None:
    files = _series(3, lambda i: {"InstanceNumber": i + 1})
    extra = {
        "README.txt": b"hello",
        "DICOMDIR": _bundled("rtplan.dcm").read_bytes(),
        "__MACOSX/._IM0": files["IM0"],
        ".DS_Store": b"\0\0",
        "preview.png": _png(),
    }
    for name, content in (files | extra).items():
        (tmp_path / "study" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "study" / name).write_bytes(content)
    folder, packed = read_slices(tmp_path / "study"), read_slices(_zip(files | extra))
    assert len(folder.images) == len(packed.images) == 3
    assert all(np.array_equal(a, b) for a, b in zip(folder.images, packed.images, strict=True))


def _png(grey: int = 50) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (8, 8), grey).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_zip_of_pictures_keeps_their_names_without_their_folders() -> None:
    slices = read_slices(_zip({"Jane Doe/s10.png": _png(10), "Jane Doe/s9.png": _png(9), "notes.txt": b"x"}))
    assert slices.names == ("s9.png", "s10.png") and slices.kind == "archive" and slices.is_volume
    assert [image.getpixel((0, 0)) for image in slices.images] == [(9, 9, 9), (10, 10, 10)]


def test_one_picture_is_one_slice(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (6, 7, 3), np.uint8)
    Image.fromarray(colours).save(tmp_path / "slice.png")
    slices = read_slices(tmp_path / "slice.png")
    assert (slices.names, slices.is_volume, slices.kind) == (("slice.png",), False, "picture")
    assert np.array_equal(slices.images[0], colours) and slices.images[-1].mode == "RGB" and len(slices.images[:1]) == 1


def _nifti(values: np.ndarray, affine: np.ndarray | None = None, **header: float) -> bytes:
    image = nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine)
    for key, value in header.items():
        image.header[key] = value
    return image.to_bytes()


@pytest.mark.parametrize("codes", ["RAS", "LPS", "LAS", "PIR", "ASL", "SRA", "IPR"])
def test_nifti_is_hung_as_a_radiologist_does_whatever_its_axes(codes: str) -> None:
    values = np.zeros((6, 7, 8), np.int16)  # right, front and top are where the indices are large
    values[5, 3, 2], values[2, 6, 4] = 100, 200  # a mark at the right in slice 2, one in front in slice 4
    turn = ornt_transform(io_orientation(np.eye(4)), axcodes2ornt(codes))
    image = nibabel.Nifti1Image(values, np.eye(4)).as_reoriented(turn)
    assert nibabel.aff2axcodes(image.affine) == tuple(codes)
    slices = read_slices(image.to_bytes(), plane="axial")
    assert len(slices.images) == 8 and slices.images[0].size == (6, 7) and slices.kind == "nifti"
    assert np.argwhere(_grey(slices.images[2]) > 0).tolist() == [[3, 0]]  # patient's right: the viewer's left
    assert np.argwhere(_grey(slices.images[4]) > 0).tolist() == [[0, 3]]  # front: up


def test_a_nifti_volume_has_one_window() -> None:
    values = np.random.default_rng(0).normal(500, 90, (20, 20, 9)).astype(np.float32)
    slices = read_slices(_nifti(values))
    low, high = np.percentile(values, [1, 99])
    shown = np.clip((values[::-1, ::-1, 3].T - low) / (high - low) * 255, 0, 255)
    assert np.abs(_grey(slices.images[3]) - shown).max() <= 0.5 + 1e-3


def test_a_falling_scale_turns_nifti_around() -> None:
    values = np.arange(4 * 4 * 4, dtype=np.int16).reshape(4, 4, 4)
    rising, falling = (read_slices(_nifti(values, scl_slope=slope, scl_inter=5.0)).images[2] for slope in (2.0, -2.0))
    assert np.array_equal(_grey(rising), 255 - _grey(falling))


def test_of_four_dimensions_the_first_volume_is_read_compressed_or_not() -> None:
    path = Path(data_path) / "example4d.nii.gz"
    slices = read_slices(path)
    volume = np.asarray(nibabel.as_closest_canonical(nibabel.load(path)).dataobj)[..., 0]
    assert len(slices.images) == volume.shape[2] == 24
    shown = np.corrcoef(_grey(slices.images[12]).ravel(), volume[::-1, ::-1, 12].T.ravel())[0, 1]
    assert shown > 0.95
    unpacked = read_slices(gzip.decompress(path.read_bytes()))
    assert all(np.array_equal(a, b) for a, b in zip(slices.images, unpacked.images, strict=True))


def test_voxels_that_are_not_square_are_stretched_to_the_true_proportions() -> None:
    slices = read_slices(_nifti(np.zeros((10, 12, 3), np.uint8), np.diag([3.0, 1.0, 5.0, 1.0])))
    assert slices.images[0].size == (30, 12)


@pytest.mark.parametrize("name", ["anatomical.nii", "functional.nii", "example_nifti2.nii.gz"])
def test_real_nifti_files_are_read(name: str) -> None:
    slices = read_slices(Path(data_path) / name, plane="axial")
    assert len(slices.images) == nibabel.as_closest_canonical(nibabel.load(Path(data_path) / name)).shape[2]
    assert _grey(slices.images[len(slices.images) // 2]).std() > 5


def test_a_nifti_volume_may_come_in_a_zip_with_a_preview() -> None:
    volume = _nifti(np.arange(27, dtype=np.int16).reshape(3, 3, 3))
    slices = read_slices(_zip({"t1.nii": volume, "t1.png": _png()}), plane="axial")
    assert len(slices.images) == 3 and slices.kind == "archive"


_WITHOUT_SLICES: dict[str, Callable[[], bytes]] = {
    "an empty zip": lambda: _zip({}),
    "a zip without pictures": lambda: _zip({"notes.txt": b"x"}),
    "DICOM without pixels": lambda: _bundled("rtplan.dcm").read_bytes(),
    "DICOM cut off": lambda: _bundled("MR_truncated.dcm").read_bytes(),
    "complex NIfTI": lambda: _nifti(np.zeros((4, 4, 4), np.complex64)),
    "a NIfTI header alone": lambda: (Path(data_path) / "nifti1.hdr").read_bytes(),
}


@pytest.mark.parametrize("content", _WITHOUT_SLICES.values(), ids=_WITHOUT_SLICES)
def test_what_holds_no_slices_is_one_sentence(content: Callable[[], bytes]) -> None:
    with pytest.raises(ImageError) as error:
        read_slices(content(), "upload")
    message = str(error.value)
    assert message.startswith("upload: ") and message.endswith(".") and "\n" not in message and "/" not in message


def test_no_message_or_name_tells_who_the_patient_is() -> None:
    files = _series(2)
    slices = read_slices(_zip({f"Doe^Jane/{name}": content for name, content in files.items()}))
    broken = _zip({"Doe^Jane/IM0": files["IM0"], "Doe^Jane/IM1": files["IM1"][:-40]})
    with pytest.raises(ImageError) as error:
        read_slices(broken, "upload.zip")
    assert "Doe" not in " ".join((*slices.names, str(error.value)))
    assert "IM1" in str(error.value) or "upload.zip" in str(error.value)


@pytest.mark.parametrize("name", ["CT_small.dcm", "examples_overlay.dcm", "examples_palette.dcm", "liver_1frame.dcm"])
def test_a_file_that_says_it_is_no_mr_of_a_head_is_refused_alone_and_in_a_zip(name: str) -> None:
    content = _bundled(name).read_bytes()
    for reading in (read_slices, read_image):
        with pytest.raises(ImageError, match=r"give an MRI of the head"):
            reading(content)
    with pytest.raises(ImageError, match=r"in 2 files, but no MR of a head"):
        read_slices(_zip({"a": content, "b": content, "preview.png": _png()}))


def test_of_mixed_files_those_of_mr_are_read_and_the_others_counted() -> None:
    tomograms = {f"CT{i}": _dicom(np.ones((8, 8)), Modality="CT", SeriesInstanceUID="9") for i in range(5)}
    knee = {"K": _dicom(np.ones((8, 8)), Modality="MR", BodyPartExamined="KNEE")}
    slices = read_slices(_zip(_series(3, lambda i: {"Modality": "MR"}) | tomograms | knee))
    assert len(slices.images) == 3
    (note,) = slices.notes
    assert "a CT picture (Modality CT) in 5 files" in note and "in 1 file" in note


def test_what_the_headers_say_is_said_once_for_all_slices_and_several_series_are_told() -> None:
    assert read_slices(_bundled("MR_small.dcm")).notes == ()
    flair = _series(3, lambda i: {"SeriesDescription": "t2_tirm_tra_dark-fluid Doe", "Modality": "MR"})
    (note,) = read_slices(_zip(flair)).notes
    assert "FLAIR" in note and "Doe" not in note
    assert read_slices(flair["IM0"]).notes == (note,)
    other = {"other": _dicom(np.ones((8, 8)), SeriesInstanceUID="7")}
    assert any("2 series" in note for note in read_slices(_zip(flair | other)).notes)
    assert read_slices(_png()).notes == ()
