"""What a DICOM header says of the picture: whether it is MR of a head, and in which sequence. No torch.

Headers hold free text, and people write names into it. So nothing of a header is ever repeated: its elements are
compared with the words below, and only these words are said.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from brain_mri.io.sequences import T1, has_agent, sequence_of, words_of
from brain_mri.io.untrusted import parsing

if TYPE_CHECKING:
    from pydicom import Dataset

NAMES_OF_SEQUENCE = ("AcquisitionContrast", "SeriesDescription", "ProtocolName")
HEADER_TAGS = ("SOPClassUID", "Modality", "BodyPartExamined", "ScanningSequence", "ContrastBolusAgent",
               "ContrastBolusAgentSequence", *NAMES_OF_SEQUENCE)  # fmt: skip
_MOST_BYTES = 4096  # of an element; the standard allows 64 characters in most of them

_MODALITIES = {
    "CT": "a CT picture",
    "PT": "a PET picture",
    "NM": "a nuclear medicine picture",
    "US": "an ultrasound picture",
    "IVUS": "an ultrasound picture",
    "CR": "an X-ray picture",
    "DX": "an X-ray picture",
    "RG": "an X-ray picture",
    "IO": "an X-ray picture of teeth",
    "PX": "an X-ray picture of teeth",
    "MG": "a mammogram",
    "XA": "an X-ray angiogram",
    "RF": "a fluoroscopy picture",
    "RTIMAGE": "a radiotherapy picture",
    "RTDOSE": "a map of radiotherapy doses",
    "SEG": "a segmentation",
    "SR": "a report",
    "DOC": "a document",
    "ES": "an endoscopy picture",
    "SM": "a microscopy picture",
    "GM": "a microscopy picture",
    "OP": "a picture of an eye",
    "OPT": "a picture of an eye",
    "XC": "a photograph",
}
_UNSAID = ("", "OT")  # "other": what exported pictures have

_STANDARD = "1.2.840.10008."  # other SOP classes are a vendor's own, of which nothing is known
_STORAGE = f"{_STANDARD}5.1.4.1.1."
_MR_CLASS = re.compile(re.escape(_STORAGE) + r"4(\.[134])?")  # single, enhanced, in colour, converted; not spectra
_CAPTURE_CLASS = re.compile(re.escape(_STORAGE) + r"7(\..*)?")  # a picture of any kind, saved as DICOM

_HEAD = re.compile(
    r"(head|brain|skull|crani|cereb|enceph|encef|neuro|pituit|hypoph|hippoc|kopf|schädel|schaedel|hirn|gehirn)\w*"
    r"|crane|crâne|tete|tête|cabeza|testa|sellar?|iacs?|iams?|orbits?|orbita|eyes?|faces?|facial|ears?|sinus|sinuses|nose"
    r"|jaws?|tmjs?|maxilla|mandible|temporal|willis"
)
_ELSEWHERE = {
    "the spine": re.compile(r"\w*spine|spinal|vertebra\w*|cervical|lumb\w*|sacrum|sacral|coccyx|sijoints?"),
    "the chest": re.compile(
        r"(chest|thora|cardi|mediast)\w*|lungs?|hearts?|ribs?|sternum|clavicles?|breasts?|axillas?|aorta|thymus|bronchus"
    ),
    "the abdomen": re.compile(
        r"(abdom|gastr|panc)\w*|liver|kidneys?|spleen|stomach|gallbladder|adrenals?|bowel|colon|ileum|duodenum|rectum"
        r"|intestines?|mrcp|ureters?"
    ),
    "the pelvis": re.compile(
        r"(pelvi|prostat|uter|ovar|testi)\w*|bladder|cervix|vagina|penis|scrotum|buttocks?|hips?|anus|anal"
    ),
    "an arm": re.compile(
        r"shoulders?|scapulas?|humerus|arms?|upperarm|elbows?|forearms?|radius|ulna|wrists?|hands?|fingers?|thumbs?"
    ),
    "a leg": re.compile(
        r"legs?|lowerleg|femurs?|thighs?|knees?|patellas?|tibia|fibula|calf|calves|ankles?|foot|feet|toes?|calcaneus"
        r"|extremity|extremities"
    ),
}


@dataclass(frozen=True)
class Header:
    """What a header says of the picture, in words of this module.

    Attributes:
        foreign: what it is instead of MR of a head, such as "a CT picture (Modality CT)"; None where it may be that.
        notes: what a reader of the answer should know, a sentence each without its full stop.
    """

    foreign: str | None
    notes: tuple[str, ...]


def read_header(dataset: Dataset, label: str) -> Header:
    """Read what a header says of the picture.

    Raises:
        ImageError: its elements are damaged.
    """
    with parsing(label, "DICOM file"):
        foreign = _other_method(dataset) or _other_body_part(dataset)
        return Header(foreign, () if foreign else (*_doubts(dataset), *_sequence_notes(dataset)))


def may_be_slice(dataset: Dataset, label: str) -> bool:
    """Whether a file without pixels may be a slice of a head that has lost them: no report, raw data or index.

    Raises:
        ImageError: its elements are damaged.
    """
    from pydicom.uid import UID_dictionary

    with parsing(label, "DICOM file"):
        if _modality(dataset) in _MODALITIES or _other_body_part(dataset):
            return False
        classes = [str(one.get(keyword) or "") for one, keyword in _class_elements(dataset)]
        if any(_MR_CLASS.fullmatch(one) or _CAPTURE_CLASS.fullmatch(one) for one in classes):
            return True
        if any(one in UID_dictionary for one in classes):
            return False
        is_cut = all(one.startswith(_STANDARD) or _STANDARD.startswith(one) for one in classes)
        return is_cut or "Rows" in dataset  # of a vendor's own classes most have no picture


def refusal_words() -> dict[str, Any]:
    """What `read_header` refuses by, for programs in other languages: `modalities`, patterns of `head`, `elsewhere`.

    A pattern matches a whole word in lower case, and means the same in JavaScript with the flag `u`.
    """
    return {
        "modalities": dict(_MODALITIES),
        "head": _HEAD.pattern,
        "elsewhere": {part: pattern.pattern for part, pattern in _ELSEWHERE.items()},
    }


def _text(dataset: Dataset, keyword: str) -> str:
    """An element, or the several values of one, in lower case: words, `*` and `+`, with a space between them."""
    stored = dataset.get_item(keyword)
    if stored is None or stored.value is None:
        return ""
    if isinstance(stored.value, bytes) and len(stored.value) > _MOST_BYTES:
        raise ValueError("more text than a word needs")
    return words_of(str(dataset[keyword].value))


def _modality(dataset: Dataset) -> str:
    return _text(dataset, "Modality").upper()


def _is_head(words: Iterable[str]) -> bool:
    return any(_HEAD.fullmatch(word) for word in words)


def _class_elements(dataset: Dataset) -> tuple[tuple[Dataset, str], ...]:
    return (dataset, "SOPClassUID"), (dataset.file_meta, "MediaStorageSOPClassUID")


def _sop_class(dataset: Dataset) -> str:
    return next((str(found) for one, keyword in _class_elements(dataset) if (found := one.get(keyword))), "")


def _other_method(dataset: Dataset) -> str | None:
    """What the picture is, if modality or SOP class says that it is no MR."""
    from pydicom.uid import UID_dictionary

    modality, sop_class = _modality(dataset), _sop_class(dataset)
    if modality in _MODALITIES:
        return f"{_MODALITIES[modality]} (Modality {modality})"
    if modality not in (*_UNSAID, "MR"):
        return "a picture of another kind than MR (Modality)"
    kinds_told = not sop_class.startswith(_STANDARD) or _MR_CLASS.fullmatch(sop_class)
    if kinds_told or _CAPTURE_CLASS.fullmatch(sop_class):
        return None
    name = UID_dictionary[sop_class][0] if sop_class in UID_dictionary else "another"
    return f"a picture of another kind than MR (SOP class {name})"


def _other_body_part(dataset: Dataset) -> str | None:
    """What the picture shows, if it is a part of the body that is not the head."""
    words = _text(dataset, "BodyPartExamined").split()
    if _is_head(words):
        return None
    for part, names in _ELSEWHERE.items():
        if any(names.fullmatch(word) for word in words):
            return f"a picture of {part} (BodyPartExamined)"
    return None


def _doubts(dataset: Dataset) -> list[str]:
    doubts = []
    if _modality(dataset) != "MR" and not _MR_CLASS.fullmatch(_sop_class(dataset)):
        doubts.append("the header does not say that this is MR")
    words = _text(dataset, "BodyPartExamined").split()
    if words and not _is_head(words):
        doubts.append("the header names a part of the body that is not known to be the head")
    return doubts


def names_of(dataset: Dataset) -> str:
    """What the header calls the series, as `sequences.words_of` gives it. It may name a patient: compare, never say."""
    return " ".join(_text(dataset, keyword) for keyword in NAMES_OF_SEQUENCE)


def agent_of(dataset: Dataset) -> str:
    """What the header says of a contrast agent, as `sequences.words_of` gives it; not to be said either."""
    return _text(dataset, "ContrastBolusAgent") or ("given" if dataset.get("ContrastBolusAgentSequence") else "")


def _sequence_notes(dataset: Dataset) -> list[str]:
    """What to say of a sequence that is named, unless it is the one in which the model's tumours were shown."""
    names = names_of(dataset)
    sequence = sequence_of(names)
    if sequence is None and "ep" in _text(dataset, "ScanningSequence").split():
        sequence = "echo-planar imaging (EPI)"
    if sequence == T1:
        if has_agent(names, agent_of(dataset)):
            return []
        sequence = "T1, and no contrast agent"
    return [] if sequence is None else [f"the header says {sequence}: the model's tumours were contrast-enhanced T1"]
