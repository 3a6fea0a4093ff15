"""The facts about each image that audit and splits use."""

from __future__ import annotations

from dataclasses import dataclass, field

from brain_mri.data.duplicates import Thumbnails


@dataclass
class AuditTable:
    """The facts about each image, one element per image.

    Attributes:
        file_names: names, unique.
        splits: `train`, `validation`, `test` or `all`.
        labels: class names.
        digests: sha256 of the file's bytes, hexadecimal.
        thumbnails: uint8 of shape (n, S, S), from `duplicates.thumbnail`.
        patient_groups: the patient, None where unknown.
        findings: what a review found, None where it lists nothing; default: nothing listed.
    """

    file_names: list[str]
    splits: list[str]
    labels: list[str]
    digests: list[str]
    thumbnails: Thumbnails
    patient_groups: list[str | None]
    findings: list[str | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.findings = self.findings or [None] * len(self.file_names)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.file_names)
