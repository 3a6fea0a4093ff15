"""Labels in a table beside the images (`labels.csv` or `metadata.csv`) instead of class folders. No torch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from brain_mri.arguments import Columns
from brain_mri.data.class_folders import left_out
from brain_mri.data.csv_table import Row, read_csv
from brain_mri.data.folder_files import FoundFile, has_picture, list_files
from brain_mri.data.layout import FolderLayout, ImageFile, split_of
from brain_mri.errors import DataError
from brain_mri.labels import canonical_label

NAMES = ("labels.csv", "metadata.csv")
IMAGE_COLUMNS = ("file_name", "filename", "file", "image", "image_name", "image_id", "image_path", "path", "img")
LABEL_COLUMNS = ("label", "labels", "class", "class_name", "diagnosis", "tumor_type", "tumour_type", "target")
_PATIENT_COLUMNS = ("patient_group", "patient_id", "patient")


@dataclass(frozen=True)
class LabelTable:
    """A table's `path`, its `rows`, and the columns of its images and labels."""

    path: Path
    rows: Sequence[Row]
    image: str
    label: str
    patient: str | None
    split: str | None


def find_table(folder: Path, wanted: Columns, splits: Iterable[Path] = ()) -> LabelTable | None:
    """The table of labels in a folder; None without one.

    `labels.csv` is one. `metadata.csv` is one where pictures lie in the folder, or in its `splits`, without class
    folders: beside these it may hold anything.

    Raises:
        DataError: it can't be read, lacks a column that is needed, or several columns may be the label.
    """
    path = next((folder / name for name in NAMES if (folder / name).is_file()), None)
    if path is None or (path.name == "metadata.csv" and not any(map(has_picture, (folder, *splits)))):
        return None
    columns, rows = read_csv(path)
    image = _column(path, columns, "image", wanted.image, IMAGE_COLUMNS)
    label = _column(path, columns, "label", wanted.label, LABEL_COLUMNS)
    if image is None or label is None:
        raise DataError(
            f"{path}: has the columns {', '.join(columns) or 'none'}; name them file_name and label, or say which they "
            "are with --image_column and --label_column."
        )
    patient, split = _first(columns, _PATIENT_COLUMNS), _first(columns, ("split",))
    return LabelTable(path, rows, image, label, patient, split)


def choose(source: object, columns: Sequence[str], what: str, usual: Sequence[str]) -> str | None:
    """The one of `columns` that has a usual name, the most usual first; None if there is none.

    Raises:
        DataError: several have one, and none the most usual.
    """
    found = [name for name in columns if name.lower() in usual]
    if len(found) > 1 and (best := _first(found, usual[:1])):
        return best
    if len(found) > 1:
        raise DataError(f"{source}: {' and '.join(found)} may be the {what}: say which with --{what}_column.")
    return found[0] if found else None


def _column(path: Path, columns: Sequence[str], what: str, wanted: str | None, usual: Sequence[str]) -> str | None:
    if wanted is None or (what == "image" and wanted not in columns and "file_name" in columns):
        return choose(path, columns, what, usual)
    if wanted not in columns:
        raise DataError(f"{path}: --{what}_column {wanted}: the columns are {', '.join(columns)}.")
    return wanted


def _first(columns: Iterable[str], usual: Sequence[str]) -> str | None:
    by_name = {name.lower(): name for name in columns}
    return next((by_name[name] for name in usual if name in by_name), None)


def scan_table(layout: FolderLayout, folder: Path, table: LabelTable, splits: Mapping[Path, str], split: str) -> None:
    """Add the images of a folder to `layout`, each with the label of its row.

    Args:
        layout: to add to.
        folder: where the table lies, and whose files it names.
        table: the labels.
        splits: the folders of splits in `folder`, if any.
        split: of images that lie in none of these, and whose row names none.
    """
    prefix = "" if folder == layout.root else f"{folder.relative_to(layout.root).as_posix()}/"
    listing = list_files(folder, prefix)
    layout.problems += listing.problems
    if others := [inner for inner in listing.documents if "/" in inner]:
        layout.notes.append(left_out([prefix + inner for inner in others]))
    rows = _rows_of(layout, table, listing.images)
    unnamed = [file.inner for file in listing.images if file.inner not in rows]
    if unnamed:
        layout.problems.append(
            f"{len(unnamed)} images have no row in {table.path.name} ({unnamed[0]} ...): add the rows, or move the "
            "images away"
        )
    layout.problems += _contradictions(table, rows)
    for file in listing.images:
        if (row := rows.get(file.inner)) is not None:
            its_split = _split_of(layout, table, row, file, splits, split)
            layout.images.append(_image(file, prefix, table, row, its_split))


def _rows_of(layout: FolderLayout, table: LabelTable, images: Sequence[FoundFile]) -> dict[str, Row]:
    """The row of each image, by its path in the folder; what is wrong with the rows goes into `layout.problems`."""
    whole = {file.inner: file.inner for file in images}
    stems: dict[str, list[str]] = {}
    for file in images:
        for key in {os.path.splitext(file.inner)[0], file.path.name, file.path.stem}:
            stems.setdefault(key, []).append(file.inner)
    rows: dict[str, Row] = {}
    lost: list[str] = []
    for number, row in enumerate(table.rows, start=2):
        named = row[table.image].strip().replace("\\", "/").removeprefix("./")
        matches = [whole[named]] if named in whole else stems.get(named, [])
        if len(matches) != 1:
            lost.append(named)
        elif problem := _row_problem(table, row, rows.get(matches[0])):
            layout.problems.append(f"{table.path.name}, line {number} ({named}): {problem}")
        else:
            rows[matches[0]] = row
    if lost:
        layout.problems.append(
            f"{table.path.name}: {len(lost)} rows name no image, or more than one, of {table.path.parent} "
            f"({lost[0]!r} ...): give paths from the folder of the table"
        )
    return rows


def _row_problem(table: LabelTable, row: Row, earlier: Row | None) -> str | None:
    label = row[table.label].strip()
    if not label:
        return f"no {table.label}: fill it, or remove the row and the image"
    if label.lstrip("-").replace(".", "", 1).isdigit():
        return (
            f"the {table.label} {label!r} is a number: write the name of the class, such as glioma or no_tumor, so "
            "that the model's answers have it and the healthy class is known"
        )
    if "/" in label or label.startswith("."):
        return f"the {table.label} {label!r} can't be the name of a folder: write it without / and leading dot"
    if earlier is not None and earlier[table.label].strip() != label:
        return f"is {label!r} here and {earlier[table.label].strip()!r} above: keep one row"
    return None


def _contradictions(table: LabelTable, rows: Mapping[str, Row]) -> list[str]:
    """A problem where the folder of an image says another class than its row."""
    wrong = []
    for inner, row in rows.items():
        meant = canonical_label(row[table.label])
        said = {canonical_label(folder) for folder in inner.split("/")[:-1]} - {None}
        if meant and said and meant not in said:
            wrong.append(inner)
    if not wrong:
        return []
    return [f"{len(wrong)} images lie in the folder of another class than {table.path.name} says ({wrong[0]} ...)"]


def _split_of(
    layout: FolderLayout, table: LabelTable, row: Row, file: FoundFile, splits: Mapping[Path, str], split: str
) -> str:
    """The split of an image: its folder's, else its row's, else `split`."""
    of_folder = next((name for folder, name in splits.items() if folder in file.path.parents), None)
    if of_folder or table.split is None or not row[table.split].strip():
        return of_folder or split
    if (named := split_of(row[table.split].strip())) is None:
        problem = f"{table.path.name}: the split {row[table.split]!r} is unknown: train, validation or test"
        layout.problems += [problem] if problem not in layout.problems else []
    return named or split


def _image(file: FoundFile, prefix: str, table: LabelTable, row: Row, split: str) -> ImageFile:
    patient = row[table.patient].strip() if table.patient else ""
    return ImageFile(file.path, prefix + file.inner, split, row[table.label].strip(), file.kind, patient or None)
