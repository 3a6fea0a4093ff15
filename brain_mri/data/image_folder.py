"""Finding splits, classes and side tables in a folder of images. No torch; only the first bytes of a file are read.

`load_dataset("imagefolder", data_dir=...)` does not know `Training/` and `Testing/` and silently puts every image in
one train split; it takes files by their ending, and ignores an empty class folder. So the folder is read here, and its
problems are reported.
"""

from __future__ import annotations

import os
import re
import zipfile
from dataclasses import replace
from pathlib import Path

from brain_mri.arguments import Columns, DataArguments
from brain_mri.data.class_folders import note_patients, scan_classes
from brain_mri.data.folder_files import has_picture, sub_folders
from brain_mri.data.label_table import NAMES, find_table, scan_table
from brain_mri.data.layout import SPLIT_NAMES, WHOLE, FolderLayout, split_of
from brain_mri.errors import DataError
from brain_mri.labels import align_labels, canonical_label

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")


def scan_folder(root: str | Path, columns: Columns | None = None) -> FolderLayout:
    """Find the splits and classes of a folder, whatever the case and the usual names of its sub-folders.

    Understood are `<split>/<class>/<image>` and `<class>/<image>`, with a folder for each patient in the class or not,
    and images whose labels stand in a table; also in a single outer folder, as archives unpack. Files are recognised
    by their content. What is wrong with the folder goes into `problems`.

    Args:
        root: the folder.
        columns: of a table of labels; default: found by their names.

    Raises:
        DataError: there is no such folder, or its table of labels can't be used.
    """
    root = Path(root)
    if not _is_folder(root):
        raise DataError(no_folder(str(root)))
    root, wanted = _unwrap(root), columns or Columns()
    layout = FolderLayout(root)
    folders = sub_folders(root)
    splits = [folder for folder in folders if split_of(folder.name)]
    for folder in folders if splits else ():
        _name_split(layout, folder)
    split_folders = {folder: split for split, folder in layout.split_folders.items()}
    if table := find_table(root, wanted, split_folders):
        scan_table(layout, root, table, split_folders, WHOLE)
    for folder, split in (split_folders or {root: WHOLE}).items() if table is None else ():
        _scan_split(layout, folder, split, wanted)
    _finish(layout, by_folder=table is None)
    return layout


def _scan_split(layout: FolderLayout, folder: Path, split: str, wanted: Columns) -> None:
    table = find_table(folder, wanted) if split != WHOLE else None
    if table:
        scan_table(layout, folder, table, {}, split)
    else:
        scan_classes(layout, folder, split)


def _finish(layout: FolderLayout, by_folder: bool) -> None:
    """Sort the images, align their labels, and say what is not as it should be."""
    order = [*layout.split_folders, WHOLE, *SPLIT_NAMES]
    layout.images.sort(key=lambda image: (order.index(image.split), image.file_name))
    if not layout.images and not layout.problems:
        layout.problems.append("no image in it: class folders with images are needed, under split folders or not")
    if by_folder:
        note_patients(layout)
    _align(layout)


def _is_folder(root: Path) -> bool:
    try:
        return root.is_dir()
    except (OSError, ValueError):  # an impossible path
        return False


def no_folder(given: str) -> str:
    """What to do about a path that is no folder, as a sentence."""
    if not os.path.exists(given):
        return f"{given}: no such folder."
    if not os.path.isfile(given):
        return f"{given}: no folder; give the folder that holds the class folders."
    if zipfile.is_zipfile(given):
        unpacked = given.removesuffix(".zip") if given.endswith(".zip") else f"{given}.unpacked"
        return f"{given} is a zip: unpack it (python -m zipfile -e {given} {unpacked}), then give {unpacked}."
    return f"{given} is a file, not a folder: give the folder that holds the class folders, the table or the shards."


def find_images(args: DataArguments) -> FolderLayout | None:
    """The layout of the folder `--data_dir`; None of Parquet shards, or of what may be the id of a Hub dataset.

    Raises:
        DataError: no data is named, there is no such folder, no image in it, or pictures where `--streaming` reads
            shards.
    """
    if args.data_dir is None:
        raise DataError("no data: give --data_dir, a folder of images or a Hub dataset id.")
    if not os.path.isdir(args.data_dir):
        if os.path.exists(args.data_dir):
            raise DataError(f"--data_dir {no_folder(args.data_dir)}")
        if _HUB_ID.fullmatch(args.data_dir):
            return None
        raise DataError(f"--data_dir {args.data_dir}: no such folder, and no id of a Hub dataset (USER/NAME).")
    layout = scan_folder(args.data_dir, args.columns)
    if layout.images and args.streaming:
        raise DataError(
            f"{args.data_dir} holds pictures, and --streaming reads Parquet shards: write them with "
            f"`python -m brain_mri.shards {args.data_dir} TARGET`, or leave --streaming out."
        )
    if not layout.images and not any(Path(args.data_dir).rglob("*.parquet")):
        layout.check()
    return layout if layout.images else None


def _unwrap(root: Path) -> Path:
    """The folder inside single outer folders, unless that would make a class of what lies in one."""
    folders = sub_folders(root)
    while len(folders) == 1 and not _is_meant(root, folders[0]) and sub_folders(folders[0]):
        root, folders = folders[0], sub_folders(folders[0])
    return root


def _is_meant(root: Path, folder: Path) -> bool:
    """Whether a single folder is a split or a class, or holds images itself, or has a table beside it."""
    named = split_of(folder.name) or canonical_label(folder.name)
    return bool(named) or any((root / table).is_file() for table in NAMES) or has_picture(folder)


def _name_split(layout: FolderLayout, folder: Path) -> None:
    split = split_of(folder.name)
    if split is None:
        known = ", ".join("|".join(aliases) for aliases in SPLIT_NAMES.values())
        layout.problems.append(f"unknown folder {folder.name}/ beside the splits (known: {known}): rename or move it")
    elif split in layout.split_folders:
        other = layout.split_folders[split].name
        layout.problems.append(f"{other}/ and {folder.name}/ are both the {split} split: keep one")
    else:
        layout.split_folders[split] = folder


def _align(layout: FolderLayout) -> None:
    """Give every image its aligned label; splits may spell a class differently, but must have the same classes."""
    names: dict[str, set[str]] = {}
    for image in layout.images:
        names.setdefault(image.split, set()).add(image.label)
    ambiguous = [problem for split, its in names.items() if (problem := _ambiguous(_folder_of(layout, split), its))]
    layout.problems += ambiguous
    if ambiguous:
        return
    key = _one_meaning if all(len(set(map(_one_meaning, its))) == len(its) for its in names.values()) else str
    spelling = {key(name): name for its in reversed(list(names.values())) for name in sorted(its)}
    layout.problems += _missing_classes(layout, {split: set(map(key, its)) for split, its in names.items()}, spelling)
    aligned = align_labels(spelling.values())
    layout.images = [replace(image, label=aligned[spelling[key(image.label)]]) for image in layout.images]
    if len(aligned) == 1:
        layout.problems.append(f"only one class ({next(iter(aligned.values()))}): at least two are needed")
    numbers = [name for name in aligned if name.isdigit()]
    if numbers:
        layout.problems.append(
            f"the class folders {', '.join(numbers)} are numbers: name them after the classes, such as glioma and "
            "no_tumor, so that the model's answers have these and the healthy class is known"
        )
    layout.label_names = tuple(aligned.values())


def _ambiguous(folder: str, names: set[str]) -> str | None:
    try:
        align_labels(names)
    except DataError as error:
        return f"{folder}: {str(error).rstrip('.')}"
    return None


def _one_meaning(name: str) -> str:
    return canonical_label(name) or name


def _folder_of(layout: FolderLayout, split: str) -> str:
    folder = layout.split_folders.get(split)
    return f"{folder.name}/" if folder else f"the {split} split" if split != WHOLE else layout.root.name


def _missing_classes(layout: FolderLayout, found: dict[str, set[str]], spelling: dict[str, str]) -> list[str]:
    """A problem for each class that some splits lack."""
    problems = []
    for key in sorted(spelling):
        having = [_folder_of(layout, split) for split, keys in found.items() if key in keys]
        lacking = [_folder_of(layout, split) for split, keys in found.items() if key not in keys]
        if lacking:
            problems.append(
                f"the class {spelling[key]} is in {' and '.join(having)}, and not in {' or '.join(lacking)}: add it "
                "there, or remove it"
            )
    return problems
