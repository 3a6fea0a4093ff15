"""Which of the files that are not read may have been slices. No torch.

"No tumour" is not said of slices of which some were lost, so whatever is not clearly something else counts as lost.
"""

from __future__ import annotations

import codecs
import re
from pathlib import PurePosixPath

_SCAN_NAME = re.compile(
    r".*\.(jpe?g?|jfif|jp[2cfx]|j2[ck]|jxl|jls|png|gif|tiff?|bmp|dib|webp|hei[cf]s?|avif|p[bgpna]m|tga"
    r"|dcm|dicom|ima|nii|mg[hz]|mnc|nrrd|mha|img|rec|brik)"
)
_OTHER_NAME = re.compile(
    r"\.?ds_store|dicomdir"
    r"|.*\.(txt|md|rst|log|rtf|pdf|docx?|xlsx?|pptx?|od[tsp]|csv|tsv|json|ya?ml|toml|xml|html?|css|svg|ini|cfg|inf|db|lnk"
    r"|url|py|ipynb|js|sh|bat|cmd|exe|dll|msi|cab|chm|ico|ttf|bvals?|bvecs?|gii|tck|trk)"
)
_RESOURCE_FORK = b"\0\5\x16\7"  # what macOS keeps beside a file, under its name with `._` before it
_OTHER = re.compile(rb"%PDF|%!PS|\xc5\xd0\xd3\xc6|TRACK\0|MATRIX[67]", re.DOTALL)  # the last is PET
_TEXT_PICTURE = re.compile(rb"P[1-3]\s+[\d#]")
_CONTROL = re.compile(r"[\0-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f]")


def may_be_slice(name: str, head: bytes) -> bool:
    """Whether a file of no kind that is read may have been a slice, such as one whose first bytes are broken.

    Args:
        name: of the file, with or without its folders; `.gz` at its end says nothing.
        head: its first bytes; empty for an empty file, and for a link that leads nowhere.
    """
    base = PurePosixPath(name.replace("\\", "/")).name.lower().removesuffix(".gz")
    if head.startswith(_RESOURCE_FORK):
        return False
    if _SCAN_NAME.fullmatch(base):
        return True
    if _OTHER_NAME.fullmatch(base) or _OTHER.match(head):
        return False
    return not head or bool(_TEXT_PICTURE.match(head)) or not _is_text(head)


def _is_text(head: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # the last letter may be cut off
    except UnicodeDecodeError:
        return False
    return bool(text) and not _CONTROL.search(text)


def told(lost: int) -> str:
    """What is said of them in the notes of an answer."""
    return f"could not be read: {lost} {'files that may be slices' if lost > 1 else 'file that may be a slice'}"
