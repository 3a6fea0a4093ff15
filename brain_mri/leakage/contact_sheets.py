"""Contact sheets: pages of small pictures to look through, for the user's eyes alone. No torch.

They show the data, so they go to the user's own folder and nowhere else.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from brain_mri.data.image_table import AuditTable
from brain_mri.io.images import read_image
from brain_mri.leakage.review import Picture, distinct_pictures
from brain_mri.utils.files import make_folder

NOTICE = "Shows the data: do not publish."
HOW_TO_LOOK = (
    "They show the data: DO NOT PUBLISH THEM. clusters_*: each distinct picture once, the most copied first. "
    "outliers_*: the pictures whose grey values are least like those of their class first; that finds CT and inverted "
    "pictures, not lesions, so look through the clusters too. reviewed_*: what review.csv lists. To list an image as "
    "not what its class says, write its file_name and a word (ct, lesion ...) as finding into review.csv beside the "
    "splits; the copies of picture #12 are the rows of pictures.csv whose class and picture say so."
)
"""What a user is told of the sheets."""
_KINDS = ("clusters", "outliers", "reviewed")
_COLUMNS, _ROWS = 10, 8
_SIDE = 128  # of a picture, in pixels
_LINE = 13  # of text, in pixels
_MARGIN = 4
_LETTERS = 21  # of a file name below its picture
_MOST_OUTLIERS = 2 * _COLUMNS * _ROWS


def write_sheets(table: AuditTable, groups: NDArray[np.int64], root: Path, folder: Path, pages: int = 20) -> list[Path]:
    """Write contact sheets of every class, and `pictures.csv`, which names the images behind each picture.

    - `clusters_<class>_<page>.png`: each distinct picture once, the one with the most copies first;
    - `outliers_<class>_<page>.png`: the pictures least like the others of their class, see `review.odd_greys`;
    - `reviewed_<class>_<page>.png`: the images that `review.csv` lists, with what was found.

    Args:
        table: the images.
        groups: (n,), equal for images joined by near-duplicates.
        root: the folder that `table.file_names` start from.
        folder: where the sheets go; those of an earlier audit are removed.
        pages: of each kind and class, at most.

    Returns:
        The pages written.

    Raises:
        ImageError: an image can't be read.
    """
    make_folder(folder)
    for stale in (path for kind in _KINDS for path in folder.glob(f"{kind}_*.png")):
        stale.unlink()
    pictures = distinct_pictures(table, groups)
    _write_table(table, pictures, folder / "pictures.csv")
    written: list[Path] = []
    for label, found in pictures.items():
        odd = sorted(found, key=lambda picture: picture.outlier_rank)[:_MOST_OUTLIERS]
        listed = [i for i, name in enumerate(table.labels) if name == label and table.findings[i]]
        sheets = {
            "clusters": [(p.images[0], f"#{p.number}, {_copies(p)}") for p in found],
            "outliers": [(p.images[0], f"{p.outlier_rank}. (#{p.number}, {_copies(p)})") for p in odd],
            "reviewed": [(i, str(table.findings[i])) for i in listed],
        }
        for kind, tiles in sheets.items():
            named = [(root / table.file_names[i], note) for i, note in tiles[: pages * _COLUMNS * _ROWS]]
            written += _write_pages(named, f"{label}: {kind}", folder / f"{kind}_{_plain(label)}")
    return written


def _copies(picture: Picture) -> str:
    return f"{len(picture.images)} copies" if len(picture.images) > 1 else "1 copy"


def _plain(label: str) -> str:
    return re.sub(r"[^\w.-]+", "-", label)


def _write_table(table: AuditTable, pictures: dict[str, list[Picture]], path: Path) -> None:
    """One row for each image; `file_name` is what `review.csv` asks for."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["file_name", "split", "class", "picture", "copies", "outlier_rank", "finding"])
        for label, found in pictures.items():
            for picture in found:
                for i in picture.images:
                    place = [picture.number, len(picture.images), picture.outlier_rank]
                    rows.writerow([table.file_names[i], table.splits[i], label, *place, table.findings[i] or ""])


def _write_pages(tiles: Sequence[tuple[Path, str]], title: str, stem: Path) -> list[Path]:
    per_page = _COLUMNS * _ROWS
    pages = -(-len(tiles) // per_page)
    written = []
    for number in range(pages):
        shown = tiles[number * per_page : (number + 1) * per_page]
        page = _page([(_small(path), path.name, note) for path, note in shown])
        ImageDraw.Draw(page).text(
            (_MARGIN, _MARGIN), f"{title}, page {number + 1} of {pages}. {NOTICE}", 255, ImageFont.load_default(12)
        )
        written.append(stem.with_name(f"{stem.name}_{number + 1:02}.png"))
        page.save(written[-1])
    return written


def _small(path: Path) -> Image.Image:
    image = read_image(path).convert("L")
    image.thumbnail((_SIDE, _SIDE))
    return image


def _page(tiles: Sequence[tuple[Image.Image, str, str]]) -> Image.Image:
    """Rows of pictures, each with its name and a note below."""
    width, height = _SIDE + _MARGIN, _SIDE + 2 * _LINE + _MARGIN
    rows = -(-len(tiles) // _COLUMNS)
    page = Image.new("L", (_COLUMNS * width + _MARGIN, rows * height + 2 * _LINE), 24)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(11)
    for k, (picture, name, note) in enumerate(tiles):
        left, top = _MARGIN + k % _COLUMNS * width, 2 * _LINE + k // _COLUMNS * height
        page.paste(picture, (left + (_SIDE - picture.width) // 2, top + (_SIDE - picture.height) // 2))
        short = name if len(name) <= _LETTERS else f"{name[: _LETTERS - 10]}..{name[-8:]}"
        draw.text((left, top + _SIDE), f"{short}\n{note}", 255, font, spacing=0)
    return page
