from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image
from pydicom.uid import UID
from support.scans import dicom, head, placed, zipped

from brain_mri.errors import ImageError
from brain_mri.io.volumes import read_slices

_RAW_DATA = UID("1.2.840.10008.5.1.4.1.1.66")
_REPORT = UID("1.2.840.10008.5.1.4.1.1.88.11")


def _series(count: int, uid: str, **elements: object) -> dict[str, bytes]:
    told = {"SeriesInstanceUID": f"1.2.{uid}", "SeriesNumber": int(uid), **elements}
    return {f"{uid}/{k}": placed(k, SliceThickness=5, **told) for k in range(count)}


def _png() -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (8, 8), 9).save(buffer, "PNG")
    return buffer.getvalue()


_EXAMINATION = {
    **_series(3, "1", SeriesDescription="localizer"),
    **_series(20, "2", SeriesDescription="t2_tse_tra Doe^Jane"),
    **_series(30, "3", SeriesDescription="ep2d_diff b1000"),
    **_series(12, "4", SeriesDescription="t1_se_tra"),
    **_series(10, "5", SeriesDescription="T1 TRA +C Muster"),
}


def test_of_an_examination_contrast_enhanced_t1_is_read_and_every_series_listed() -> None:
    slices = read_slices(zipped(_EXAMINATION))
    assert len(slices.images) == 10 and [one.number for one in slices.series if one.chosen] == [5]
    assert [(one.slices, one.plane) for one in slices.series] == [(n, "axial") for n in (3, 20, 30, 12, 10)]
    sequences = [one.sequence for one in slices.series]
    assert sequences == ["a localizer", "T2", "diffusion (DWI)", "T1", "T1, contrast-enhanced"]
    said = " ".join(slices.notes) + json.dumps([one.as_dict() for one in slices.series])
    assert "t2 tse tra" in said and not any(name in said.lower() for name in ("doe", "jane", "muster"))
    assert all(str(one) in " ".join(slices.notes) for one in slices.series)


@pytest.mark.parametrize(
    "agent",
    [
        {"SeriesDescription": "t1_mprage_sag", "ContrastBolusAgent": "Gadovist 7 ml"},
        {"SeriesDescription": "t1_fl2d_tra_KM"},
        {"ScanningSequence": "SE", "RepetitionTime": 500, "EchoTime": 12, "ContrastBolusAgent": "MAGNEVIST"},
        {"ScanningSequence": ["GR", "IR"], "SequenceName": "*tfl3d1", "ContrastBolusAgent": "yes"},
    ],
)  # fmt: skip
def test_the_agent_and_the_times_tell_contrast_enhanced_t1_too(agent: dict[str, object]) -> None:
    plain = _series(30, "1", ScanningSequence="SE", RepetitionTime=500, EchoTime=12)
    slices = read_slices(zipped(plain | _series(8, "2", **agent)))
    assert [one.chosen for one in slices.series] == [False, True]
    assert slices.series[1].sequence == "T1, contrast-enhanced"


@pytest.mark.parametrize("told", ["t1_tra_pre", "T1 SE without contrast", "t1_nativ"])
def test_a_series_that_says_it_has_no_agent_has_none(told: str) -> None:
    files = _series(20, "1", SeriesDescription=told, ContrastBolusAgent="Gadovist")
    assert [one.chosen for one in read_slices(zipped(files | _series(8, "2", SeriesDescription="t1 gd"))).series] == [
        False,
        True,
    ]


def test_another_series_can_be_chosen_and_one_that_is_not_there_is_refused_with_the_list() -> None:
    assert len(read_slices(zipped(_EXAMINATION), series=2).images) == 20
    for number in (0, 6, -1):
        with pytest.raises(ImageError, match="t2 tse tra"):
            read_slices(zipped(_EXAMINATION), series=number)


def test_nothing_beside_the_series_is_left_out_without_a_word() -> None:
    beside = {"a.png": _png(), "b.png": _png(), "notes.txt": b"hello"}
    slices = read_slices(zipped(_series(4, "1") | beside))
    said = " ".join(slices.notes)
    assert len(slices.images) == 4 and "pictures" in said and "2 slices" in said and "1 file" in said
    assert len(read_slices(zipped(_series(4, "1") | beside), series=2).images) == 2


def test_raw_data_and_reports_among_the_slices_are_passed_over_and_counted() -> None:
    odd = {
        "raw": dicom(None, SOPClassUID=_RAW_DATA, SeriesInstanceUID="1.2.1"),
        "sized": dicom(None, SOPClassUID=UID("1.2.840.10008.5.1.4.1.1.4.2"), Rows=64, Columns=64),
        "report": dicom(None, SOPClassUID=_REPORT, Modality="SR"),
    }
    slices = read_slices(zipped(_series(4, "1") | odd))
    assert len(slices.images) == 4 and any("3 DICOM files without a picture" in note for note in slices.notes)


def test_gzipped_dicom_is_read_alone_and_in_a_folder(tmp_path: Path) -> None:
    files = _series(4, "1")
    packed = {f"{k}.dcm.gz": gzip.compress(content) for k, content in enumerate(files.values())}
    for name, content in packed.items():
        (tmp_path / name).write_bytes(content)
    expected = read_slices(zipped(files))
    for found in (read_slices(tmp_path), read_slices(zipped(packed))):
        assert all(np.array_equal(a, b) for a, b in zip(found.images, expected.images, strict=True))
    assert len(read_slices(packed["0.dcm.gz"]).images) == 1


def _nifti(slices: int) -> bytes:
    volume = np.stack([head()] * slices, axis=-1).astype(np.int16)
    return nibabel.Nifti1Image(volume, np.diag([1.0, 1, 5, 1])).to_bytes()


def test_of_several_volumes_the_names_tell_and_masks_are_no_scans() -> None:
    files = {
        f"case_{name}.nii.gz": gzip.compress(_nifti(n)) for n, name in enumerate(("flair", "seg", "t1", "t1ce"), 4)
    }
    slices = read_slices(zipped(files))
    assert [one.description for one in slices.series if one.chosen] == ["case_t1ce.nii.gz"] and len(slices.images) == 7
    assert len(slices.series) == 3 and any("case_seg" in note for note in slices.notes)


def test_volumes_beside_dicom_are_listed_with_it() -> None:
    slices = read_slices(zipped(_series(4, "1", SeriesDescription="t2 tra") | {"sub-1_ce-gad_T1w.nii": _nifti(9)}))
    assert [one.chosen for one in slices.series] == [False, True] and len(slices.images) == 9


def test_a_report_does_not_win_over_a_scan() -> None:
    shot = _series(1, "1", SeriesDescription="T1 +C screenshot")
    assert len(read_slices(zipped(shot | _series(12, "2", SeriesDescription="t2"))).images) == 12
