"""Finding splits, classes and side tables in a folder of images. No torch, nothing decoded.

`load_dataset("imagefolder", data_dir=...)` does not know `Training/` and `Testing/` and silently puts every image in
one train split; and it ignores an empty class folder. So the folder is read here first, and its problems are reported.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from brain_mri.arguments import DataArguments
from brain_mri.errors import DataError
from brain_mri.io.images import IMAGE_SUFFIXES
from brain_mri.labels import align_labels

SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "eval"),
}
WHOLE = "all"
_SPLIT_OF = {alias: split for split, aliases in SPLIT_NAMES.items() for alias in aliases}
_MOST_NAMED = 50
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
BOX_COLUMNS = ("center_x", "center_y", "width", "height")


def split_of(name: str) -> str | None:
    """Return `train`, `validation` or `test` for a split's name in any case (`Training`, `val`, `eval`), or None."""
    return _SPLIT_OF.get(name.lower())


@dataclass(frozen=True)
class ImageFile:
    """One image of a folder; `file_name` is its path from the root with `/`, `split` is `all` if it has none."""

    path: Path
    file_name: str
    split: str
    label: str


@dataclass
class FolderLayout:
    """The contents of a folder of images.

    Attributes:
        root: the folder whose children are the splits, or without splits the classes.
        images: every image, sorted by split and name, with its aligned label.
        label_names: the labels in the order of a model's outputs.
        split_folders: `{split: folder}`; empty for a folder of classes without splits.
        problems: what is wrong with it, a sentence each.
    """

    root: Path
    images: list[ImageFile] = field(default_factory=list)
    label_names: tuple[str, ...] = ()
    split_folders: dict[str, Path] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Raise a `DataError` that lists every problem, if there is any."""
        raise_problems(self.root, self.problems)

    @cached_property
    def _table_roots(self) -> list[Path]:
        return [self.root, *self.split_folders.values()]

    def patient_groups(self) -> dict[str, str]:
        """Read `patients.csv` (`file_name`, `patient_group` or `patient_id`) into `{file_name: group}`; {} without one.

        Raises:
            DataError: the table lacks its columns or names an image that is not in the folder.
        """
        return {
            name: row.get("patient_group") or row["patient_id"]
            for name, row in self.side_table("patients.csv", ("patient_group", "patient_id"))
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
        findings = {name: (row["finding"] or "").strip() for name, row in self.side_table("review.csv", ("finding",))}
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
            try:
                content = table.read_text(encoding="utf-8-sig")
            except UnicodeDecodeError as error:
                raise DataError(f"{table}: is not in UTF-8; save it so.") from error
            reader = csv.DictReader(io.StringIO(content, newline=""))
            columns = set(reader.fieldnames or ())
            if "file_name" not in columns or not columns & set(any_of):
                raise DataError(f"{table}: needs the columns file_name and {' or '.join(any_of)}.")
            prefix = "" if folder == self.root else f"{folder.name}/"
            for row in reader:
                file_name = prefix + (row["file_name"] or "").replace("\\", "/")
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
    named = [f"  - {problem}" for problem in problems[:_MOST_NAMED]]
    if len(problems) > _MOST_NAMED:
        named.append(f"  - and {len(problems) - _MOST_NAMED} more")
    many = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    raise DataError(f"{root} can't be used as it is ({many}):\n" + "\n".join(named))


def scan_folder(root: str | Path) -> FolderLayout:
    """Find the splits and classes of a folder, whatever the case and the usual names of its sub-folders.

    Understood are `<split>/<class>/<image>` and `<class>/<image>`, also in a single outer folder, as archives unpack.
    What is wrong with the folder goes into `problems`.

    Raises:
        DataError: there is no such folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder.")
    root = _unwrap(root)
    layout = FolderLayout(root)
    folders = _folders(root)
    splits = [folder for folder in folders if split_of(folder.name)]
    if not splits:
        _scan_classes(layout, root, WHOLE)
    else:
        for folder in folders:
            _scan_split(layout, folder)
    if not layout.images and not layout.problems:
        layout.problems.append("no image in it: class folders with images are needed, under split folders or not")
    _align(layout)
    return layout


def find_images(args: DataArguments) -> FolderLayout | None:
    """The layout of the folder `--data_dir`; None of Parquet shards, or of what may be the id of a Hub dataset.

    Raises:
        DataError: no data is named, there is no such folder, no image in it, or pictures where `--streaming` reads
            shards.
    """
    if args.data_dir is None:
        raise DataError("no data: give --data_dir, a folder of images or a Hub dataset id.")
    if not os.path.isdir(args.data_dir):
        if _HUB_ID.fullmatch(args.data_dir) and not os.path.exists(args.data_dir):
            return None
        raise DataError(f"--data_dir {args.data_dir}: no such folder, and no id of a Hub dataset (USER/NAME).")
    layout = scan_folder(args.data_dir)
    if layout.images and args.streaming:
        raise DataError(
            f"{args.data_dir} holds pictures, and --streaming reads Parquet shards: write them with "
            f"`python -m brain_mri.shards {args.data_dir} TARGET`, or leave --streaming out."
        )
    if not layout.images and not any(Path(args.data_dir).rglob("*.parquet")):
        layout.check()
    return layout if layout.images else None


def _unwrap(root: Path) -> Path:
    folders = _folders(root)
    while len(folders) == 1 and not split_of(folders[0].name) and _folders(folders[0]) and not _images(folders[0]):
        root, folders = folders[0], _folders(folders[0])
    return root


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith((".", "__MACOSX")))


def _images(folder: Path) -> list[Path]:
    files = (p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith("."))
    return sorted(p for p in files if p.is_file())


def _scan_split(layout: FolderLayout, folder: Path) -> None:
    split = split_of(folder.name)
    if split is None:
        known = ", ".join("|".join(aliases) for aliases in SPLIT_NAMES.values())
        layout.problems.append(f"unknown folder {folder.name}/ beside the splits (known: {known}): rename or move it")
    elif split in layout.split_folders:
        other = layout.split_folders[split].name
        layout.problems.append(f"{other}/ and {folder.name}/ are both the {split} split: keep one")
    else:
        layout.split_folders[split] = folder
        _scan_classes(layout, folder, split)


def _scan_classes(layout: FolderLayout, folder: Path, split: str) -> None:
    stray = _images(folder)
    if stray:
        layout.problems.append(
            f"{len(stray)} images in {folder.name}/ lie outside a class folder ({stray[0].name} ...)"
        )
    for class_folder in _folders(folder):
        name = class_folder.relative_to(layout.root).as_posix()
        images = _images(class_folder)
        for inner in _folders(class_folder):
            layout.problems.append(f"unknown folder {name}/{inner.name}/ inside a class: move its images up or away")
        if not images:
            layout.problems.append(f"no image in the class {name}/: fill or remove it")
        for path in images:
            layout.images.append(ImageFile(path, path.relative_to(layout.root).as_posix(), split, class_folder.name))


def _align(layout: FolderLayout) -> None:
    """Give every image its aligned label; splits may spell a class differently, but must have the same classes."""
    per_split: dict[str, set[str]] = {}
    for image in layout.images:
        per_split.setdefault(image.split, set()).add(image.label)
    try:
        labels = {split: align_labels(names) for split, names in per_split.items()}
    except DataError as error:
        layout.problems.append(str(error))
        return
    layout.images = [ImageFile(i.path, i.file_name, i.split, labels[i.split][i.label]) for i in layout.images]
    found = {split: set(mapping.values()) for split, mapping in labels.items()}
    everything = set().union(*found.values())
    for split, names in found.items():
        if everything - names:
            missing = ", ".join(sorted(everything - names))
            layout.problems.append(f"the {split} split lacks the class {missing}, which another split has")
    if len(everything) == 1:
        layout.problems.append(f"only one class ({everything.pop()}): at least two are needed")
    layout.label_names = tuple(dict.fromkeys(align_labels(everything).values()))
