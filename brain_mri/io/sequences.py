"""What a header's or a file's names say of a scan: its sequence, and whether a contrast agent was given. No torch.

Names hold free text, and people write names of patients into them. Only words of this module are ever said.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

T1, FLAIR, T2 = "T1", "FLAIR", "T2"
_PLANE = r"(?:^| |ax|sag|cor|tra|[23]d|se)"  # what is written right before T1 or T2
_T1_NAMES = re.compile(_PLANE + r"t1(?!\d)|mp2?rage|bravo|spgr|vibe")
_T2_NAMES = re.compile(_PLANE + r"t2(?!\d)")
LOCALIZER = "a localizer"
_OTHER_SEQUENCES = (
    (LOCALIZER, re.compile(r"locali[sz]er|\bloc\b|scout|survey|pilot|\b(3|three) ?plane")),
    ("diffusion (DWI)", re.compile(r"dwi|\bdti\b|diff|\badc\b|\btrace|\bb ?1000|tensor")),
    ("susceptibility (SWI)", re.compile(r"\bswip?\b|\bswan\b|suscept|venobold")),
    ("perfusion", re.compile(r"perf|\b(p?c?asl|dsc|dce|r?cb[vf]|mtt|ttp)\b")),
    ("angiography (MRA)", re.compile(r"\btof\b|\bmr[av]\b|angio|venogr|flow encoded")),
    ("functional MRI", re.compile(r"fmri|\bbold\b|resting")),
    ("T2*", re.compile(r"t2 ?(\*|star)")),
)
_FLAIR_NAMES = re.compile(r"flair|tirm|dark ?fluid|fluid att")
_STIR_NAMES = re.compile(r"\bstir\b")
_PROTON_NAMES = re.compile(r"\bpdw?\b|proton dens")
_AGENT = re.compile(
    r"\+ ?c\b|\bc ?\+|gad|\bgd\b|\bpost\b(?! ?fossa)|\bkm\b|[ck]ontrast|\bce\b|\bt1 ?(ce?|gd)\b|enhanced"
)
_NO_AGENT = re.compile(r"\b(no|non|none|without|w ?o|pre|precontrast|ohne|sans|sin|nativ|native|plain)\b")
_MASK = re.compile(r"\b(seg|segmentation|mask|labels?|aseg|aparc|roi|brainmask)\b")

# Words of a description that are repeated; no other is. None is a name of people.
_KNOWN = re.compile(
    r"t[12]w?|t2|star|pdw?|ax(ial)?|sag(ittal)?|cor(onal)?|tra(ns|nsverse|nsversal)?|obl(ique)?|[23]d|se|tse|fse|ffe|tfe|gre|gr"
    r"|fl(ash)?|tfl|mp2?rage|bravo|spgr|fspgr|vibe|thrive|space|cube|vista|flair|tirm|stir|dark|fluid|ir|spir|spair"
    r"|fs|fat|sat|dixon|water|ep|ep2d|epi|dwi|dti|diff(usion)?|adc|trace|tracew|fa|swi|swan|venobold|hemo|mip|mnip|mpr"
    r"|perf(usion)?|dsc|dce|asl|pasl|pcasl|cb[fv]|mtt|ttp|tof|mra|mrv|angio|pc|fmri|bold|rest(ing)?|state|task"
    r"|loc(ali[sz]er)?|scout|survey|pilot|aahead|calibration|head|brain|neuro|routine|contrast|post|pre|gd|gad(o|olinium)?|km|ce"
    r"|with|without|no|nativ(e)?|iso|high|low|res|sub|subtraction|phase|mag(nitude)?|map|field|b0|echo|dual|motion|corr"
    r"|reformat(ted)?|dynamic|dyn|early|late|delayed|b\d{1,4}|\d{1,2}mm|[*+]|c"
)


def words_of(text: str) -> str:
    """A text in lower case: words, `*` and `+`, with a space between them."""
    return " ".join(re.findall(r"[^\W_]+|[*+]", text.lower()))


def sequence_words() -> dict[str, Any]:
    r"""The patterns of `sequence_of` and `has_agent`, for programs in other languages: they are searched for anywhere.

    `others`: pairs of a sequence and its pattern, in order. `\b` is Python's in them, which knows all letters.
    """
    return {
        "others": [[sequence, found.pattern] for sequence, found in _OTHER_SEQUENCES],
        "t1": _T1_NAMES.pattern,
        "t2": _T2_NAMES.pattern,
        "flair": _FLAIR_NAMES.pattern,
        "stir": _STIR_NAMES.pattern,
        "proton": _PROTON_NAMES.pattern,
        "agent": _AGENT.pattern,
        "no_agent": _NO_AGENT.pattern,
    }


def described(names: str) -> str:
    """The known words of a description that `words_of` gave; the empty string without any."""
    return " ".join(word for word in names.split() if _KNOWN.fullmatch(word))[:60]


def is_mask(names: str) -> bool:
    """Whether a file is named as a segmentation or a mask is."""
    return bool(_MASK.search(names))


def has_agent(names: str, agent: str = "") -> bool:
    """Whether a contrast agent is told of, by names or by the header's element for it (words, as `words_of` gives)."""
    if _NO_AGENT.search(names):  # some scanners keep the element filled from the series before
        return False
    return bool(_AGENT.search(names)) or bool(agent and not _NO_AGENT.search(agent))


def sequence_of(names: str) -> str | None:
    """The sequence that a series' names tell, in words of this module."""
    for sequence, found in _OTHER_SEQUENCES:
        if found.search(names):
            return sequence
    t1, t2 = _T1_NAMES.search(names), _T2_NAMES.search(names)
    if t1 and not t2:  # "T1 FLAIR" is a T1
        return T1
    if _FLAIR_NAMES.search(names):
        return FLAIR
    if _STIR_NAMES.search(names):
        return "STIR"
    if t2:
        return T2
    return "proton density" if _PROTON_NAMES.search(names) else None


def sequence_by_times(
    scanning: Sequence[str], name: str, repetition: float | None, echo: float | None, inversion: float | None
) -> str | None:
    """The sequence by how it was measured, for a series whose names tell nothing.

    Args:
        scanning: the values of ScanningSequence, in lower case.
        name: SequenceName, such as "*tfl3d1".
        repetition: time in ms, as are `echo` and `inversion`; None where it is not told.
        echo: time.
        inversion: time.
    """
    name = name.lower().lstrip("*").strip()
    if name.startswith("ep_b"):
        return "diffusion (DWI)"
    if re.match(r"fl3d1r?_t\d", name):
        return "angiography (MRA)"
    if name.startswith("ep") or "ep" in scanning:
        return "echo-planar imaging (EPI)"
    if name.startswith("tfl"):
        return T1
    if not repetition or echo is None:
        return None
    if inversion and inversion > 1500 and echo > 60:
        return FLAIR
    if "gr" in scanning and "se" not in scanning:
        return T1 if echo < 10 and repetition < 3000 else "T2*" if echo >= 15 else None
    if echo <= 35 and repetition <= 1200:
        return T1
    if repetition >= 2000 and not inversion:
        return T2 if echo >= 60 else "proton density" if echo <= 40 else None
    return None


def rank(sequence: str | None, agent: bool) -> int:
    """How far a series is from contrast-enhanced T1, in which the model's tumours were shown; 0 is that."""
    if sequence == T1:
        return 0 if agent else 1
    if sequence is None:
        return 1 if agent else 2
    if sequence in (FLAIR, T2, "STIR", "proton density"):
        return 3
    return 5 if sequence == LOCALIZER else 4
