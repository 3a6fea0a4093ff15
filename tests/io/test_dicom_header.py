from __future__ import annotations

import pytest
from pydicom.dataset import Dataset, FileMetaDataset

from brain_mri.errors import ImageError
from brain_mri.io.dicom_header import Header, read_header

_STORAGE = "1.2.840.10008.5.1.4.1.1."
_MR_CLASS = f"{_STORAGE}4"


def _header(**elements: object) -> Header:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return read_header(dataset, "scan.dcm")


@pytest.mark.parametrize("modality", ["CT", "ct ", "PT", "US", "CR", "DX", "MG", "XA", "NM", "SR", "SEG", "RTDOSE"])
def test_another_modality_is_refused_and_named(modality: str) -> None:
    foreign = _header(Modality=modality, SOPClassUID=_MR_CLASS).foreign
    assert foreign and f"(Modality {modality.strip().upper()})" in foreign


@pytest.mark.parametrize("modality", [["MR", "PT"], "FOO", "MRX"])
def test_a_modality_that_is_not_plainly_mr_is_refused(modality: str | list[str]) -> None:
    assert _header(Modality=modality).foreign


@pytest.mark.parametrize("modality", [None, "MR", "OT"])
@pytest.mark.parametrize("number", ["2", "2.1", "6.1", "128", "130", "20", "1.1", "66.4", "481.2"])
def test_the_storage_class_of_another_method_is_refused_whatever_the_modality(
    modality: str | None, number: str
) -> None:
    foreign = _header(Modality=modality, SOPClassUID=_STORAGE + number).foreign
    assert foreign and "Storage" in foreign


@pytest.mark.parametrize("number", ["4", "4.1", "4.3", "4.4", "7", "7.2"])
def test_mr_is_accepted_single_enhanced_or_captured(number: str) -> None:
    assert _header(Modality="mr", SOPClassUID=_STORAGE + number) == Header(None, ())


def test_a_vendors_own_class_is_believed_to_be_what_the_modality_says() -> None:
    assert _header(Modality="MR", SOPClassUID="1.3.46.670589.11.0.0.12.1").foreign is None
    assert _header(Modality="CT", SOPClassUID="1.3.46.670589.11.0.0.12.1").foreign


def test_a_header_that_does_not_say_mr_is_read_and_it_is_said() -> None:
    for elements in ({}, {"Modality": ""}, {"Modality": "OT", "SOPClassUID": f"{_STORAGE}7"}):
        header = _header(**elements)
        assert header.foreign is None and "does not say that this is MR" in header.notes[0]
    assert _header(SOPClassUID=f"{_STORAGE}4.1").notes == ()


@pytest.mark.parametrize(
    "part",
    ["ABDOMEN", "KNEE", "CSPINE", "LSPINE", "C_SPINE", "lumbar spine", "PELVIS", "PROSTATE", "HEART", "BREAST",
     "SHOULDER", "ABDOMENPELVIS", "CHESTABDPELVIS", "Liver", "EXTREMITY", "FOOT"],
)  # fmt: skip
def test_a_part_of_the_body_that_is_no_head_is_refused(part: str) -> None:
    assert "(BodyPartExamined)" in (_header(Modality="MR", BodyPartExamined=part).foreign or "")


@pytest.mark.parametrize(
    "part",
    ["HEAD", "BRAIN", "SKULL", "HEADNECK", "HEAD_AND_NECK", "Head^Brain", "PITUITARY", "IAC", "ORBIT", "FACE", "brain",
     "CRANIUM", "CEREBRUM", "BRAIN CSPINE", "KOPF", "SELLA", "HIPPOCAMPUS", "NEURO", "", None],
)  # fmt: skip
def test_a_head_by_any_name_is_accepted_without_a_word(part: str | None) -> None:
    assert _header(Modality="MR", BodyPartExamined=part) == Header(None, ())


@pytest.mark.parametrize("part", ["NECK", "WHOLEBODY", "XYZZY"])
def test_a_part_of_the_body_that_may_hold_a_head_is_read_and_it_is_said(part: str) -> None:
    header = _header(Modality="MR", BodyPartExamined=part)
    assert header.foreign is None and "not known to be the head" in header.notes[0]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("AX T2 FLAIR", "FLAIR"), ("t2_tirm_tra_dark-fluid", "FLAIR"), ("Ax FLAIR +C", "FLAIR"), ("AXT2", "T2"),
        ("t2_tse_tra_512", "T2"), ("ep2d_diff_3scan_trace", "diffusion (DWI)"), ("DWI_b1000", "diffusion (DWI)"),
        ("ADC", "diffusion (DWI)"), ("SWI_Images", "susceptibility (SWI)"), ("T2* GRE", "T2*"), ("PD TSE", "proton"),
        ("TOF_3D_multi-slab", "angiography (MRA)"), ("3-plane loc", "a localizer"), ("Survey", "a localizer"),
        ("ep2d_perf", "perfusion"), ("T1 AXIAL", "T1, and no contrast"), ("T1_mprage_sag_pre", "T1, and no contrast"),
        ("SAG T1 FLAIR", "T1, and no contrast"), ("T1 without contrast", "T1, and no contrast"), ("cor STIR", "STIR"),
    ],
)  # fmt: skip
def test_a_sequence_other_than_that_of_the_tumours_is_said(name: str, said: str) -> None:
    for keyword in ("SeriesDescription", "ProtocolName"):
        (note,) = _header(Modality="MR", **{keyword: name}).notes
        assert f"says {said}" in note and "contrast-enhanced T1" in note


@pytest.mark.parametrize(
    "name", ["AX T1 +C", "T1 POST GAD", "t1_mprage_tra_KM", "T1c", "T1-CE", "", "routine", "part1", "brain T10"]
)
def test_of_the_tumours_own_sequence_and_of_none_nothing_is_said(name: str) -> None:
    assert _header(Modality="MR", SeriesDescription=name).notes == ()


def test_elements_beside_the_names_count_too() -> None:
    assert _header(Modality="MR", SeriesDescription="AX T1", ContrastBolusAgent="Gadovist").notes == ()
    assert _header(Modality="MR", SeriesDescription="AX T1", ContrastBolusAgent="NONE").notes
    assert "FLAIR" in _header(Modality="MR", AcquisitionContrast="FLUID_ATTENUATED").notes[0]
    assert "EPI" in _header(Modality="MR", ScanningSequence=["EP", "SE"]).notes[0]
    assert _header(Modality="MR", ScanningSequence="SE").notes == ()


def test_nothing_that_a_person_wrote_is_repeated() -> None:
    name = "DOE JANE FLAIR"
    words = {keyword: name for keyword in ("SeriesDescription", "ProtocolName", "ContrastBolusAgent")}
    for header in (
        _header(Modality="MR", BodyPartExamined="DOE JANE", **words),
        _header(Modality="MR", BodyPartExamined="ABDOMENDOE JANE", **words),
        _header(Modality="DOE", **words),
        _header(Modality="MR", SOPClassUID="1.2.840.10008.5.1.4.1.1.99.4711", **words),
    ):
        assert not any(word in str(header).upper() for word in ("DOE", "JANE", "4711")), header


def test_an_element_of_many_bytes_is_refused_before_it_is_taken_apart() -> None:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.add_new("ScanningSequence", "OB", b"SE\\" * 10_000)
    with pytest.raises(ImageError, match=r"scan\.dcm"):
        read_header(dataset, "scan.dcm")
