"""What a folder of images holds: its images, splits, classes, and the tables beside them. No torch, nothing decoded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from brain_mri.data.csv_table import read_csv
from brain_mri.errors import DataError

SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "eval"),
}
WHOLE = "all"
_SPLIT_OF = {alias: split for split, aliases in SPLIT_NAMES.items() for alias in aliases}
MOST_NAMED = 50  # problems
_MOST_COUNTED = 200  # a folder with more of them is not the folder that was meant
PATIENTS = "patients.csv"
BOX_COLUMNS = ("center_x", "center_y", "width", "height")


def split_of(name: str) -> str | None:
    """Return `train`, `validation` or `test` for a split's name in any case (`Training`, `val`, `eval`), or None."""
    return _SPLIT_OF.get(name.lower())


@dataclass(frozen=True)
class ImageFile:
    """One image of a folder.

    Attributes:
        path: of the file.
        file_name: its path from the root, with `/`.
        split: `train`, `validation`, `test`, or `all` in a folder without splits.
        label: its class.
        kind: `picture`, or `dicom`, a file with a header that may name a person.
        patient: whose slice it is, where a folder inside the class or a table of labels says so.
    """

    path: Path
    file_name: str
    split: str
    label: str
    kind: str = "picture"
    patient: str | None = None


@dataclass
class FolderLayout:
    """The contents of a folder of images.

    Attributes:
        root: the folder whose children are the splits, or without splits the classes.
        images: every image, sorted by split and name, with its aligned label.
        label_names: the labels in the order of a model's outputs.
        split_folders: `{split: folder}`; empty for a folder of classes without splits.
        problems: what is wrong with it, a sentence each.
        notes: what its owner should know, a sentence each: files that were left out, patients found by folder.
    """

    root: Path
    images: list[ImageFile] = field(default_factory=list)
    label_names: tuple[str, ...] = ()
    split_folders: dict[str, Path] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Raise a `DataError` that lists every problem, if there is any."""
        raise_problems(self.root, self.problems)

    @cached_property
    def _table_roots(self) -> list[Path]:
        return [self.root, *self.split_folders.values()]

    def patient_groups(self) -> dict[str, str]:
        """`{file_name: group}` of the images whose patient is known.

        `patients.csv` (`file_name`, `patient_group` or `patient_id`) says it, and without one the folders inside the
        classes or the table of labels.

        Raises:
            DataError: the table lacks its columns or names an image that is not in the folder.
        """
        if not any((folder / PATIENTS).is_file() for folder in self._table_roots):
            return {image.file_name: image.patient for image in self.images if image.patient}
        return {
            name: row.get("patient_group") or row["patient_id"]
            for name, row in self.side_table(PATIENTS, ("patient_group", "patient_id"))
            if row.get("patient_group") or row.get("patient_id")
        }

    def boxes(self) -> dict[str, tuple[float, float, float, float]]:
        """Read `boxes.csv` into `{file_name: (center_x, center_y, width, height)}`, fractions of the image in [0, 1].

        Raises:
            DataError: the table lacks its columns, names an unknown image, or holds something that is no fraction.
        """
        boxes = {}
        for name, row in self.side_table("boxes.csv", BOX_COLUMNS):
            try:
                x, y, w, h = (float(row[c]) for c in BOX_COLUMNS)
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(
                    f"boxes.csv: the row of {name!r} needs the four numbers {', '.join(BOX_COLUMNS)}."
                ) from error
            if not all(0.0 <= v <= 1.0 for v in (x, y, w, h)):
                raise DataError(f"boxes.csv: the box of {name!r} is not in fractions of the image, from 0 to 1.")
            boxes[name] = (x, y, w, h)
        return boxes

    def findings(self) -> dict[str, str]:
        """Read `review.csv` (`file_name`, `finding`) into `{file_name: finding}`; {} without one.

        It lists images that are not what their class says, and what was found there, a word such as `ct` or `lesion`.
        They are kept out of whatever a model learns from, and stay among the images that it is tested on.

        Raises:
            DataError: the table lacks its columns, names an image that is not in the folder, or a row has no finding.
        """
        findings = {name: row["finding"].strip() for name, row in self.side_table("review.csv", ("finding",))}
        if missing := [name for name, finding in findings.items() if not finding]:
            raise DataError(f"review.csv: the row of {missing[0]!r} has no finding: write one, or remove it.")
        return findings

    def fingerprint(self) -> str:
        """`fingerprint_of` this folder; the one that train.py puts into `run.json`."""
        digests = [hashlib.sha256(image.path.read_bytes()).hexdigest() for image in self.images]
        labels = [self.label_names.index(image.label) for image in self.images]
        return fingerprint_of([image.file_name for image in self.images], digests, labels)

    def side_table(self, name: str, any_of: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
        """The rows of a CSV table beside the images or splits, each as `(file_name from the root, row)`.

        Raises:
            DataError: the table lacks `file_name` or all of the columns `any_of`, or names an unknown image.
        """
        known = {image.file_name for image in self.images}
        for folder in self._table_roots:
            table = folder / name
            if not table.is_file():
                continue
            columns, rows = read_csv(table)
            if "file_name" not in columns or not set(columns) & set(any_of):
                raise DataError(f"{table}: needs the columns file_name and {' or '.join(any_of)}.")
            prefix = "" if folder == self.root else f"{folder.name}/"
            for row in rows:
                file_name = prefix + row["file_name"].replace("\\", "/")
                if file_name not in known:
                    raise DataError(f"{table}: {row['file_name']!r} is not an image of this folder; mend the table.")
                yield file_name, row


def fingerprint_of(file_names: Iterable[str], digests: Iterable[str], labels: Iterable[int]) -> str:
    """A hash of the images, in any order: names from the root, sha256 of the files, label numbers."""
    lines = sorted(f"{name} {digest} {label}" for name, digest, label in zip(file_names, digests, labels, strict=True))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def raise_problems(root: Path | str, problems: list[str]) -> None:
    """Raise one `DataError` that lists `problems`, if there is any."""
    if not problems:
        return
    if len(problems) > _MOST_COUNTED:
        raise DataError(
            f"{root} can't be used: {len(problems)} problems, the first that {problems[0]}; give the folder of images."
        )
    named = [f"  - {problem}" for problem in problems[:MOST_NAMED]]
    if len(problems) > MOST_NAMED:
        named.append(f"  - and {len(problems) - MOST_NAMED} more")
    many = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    raise DataError(f"{root} can't be used as it is ({many}):\n" + "\n".join(named))
