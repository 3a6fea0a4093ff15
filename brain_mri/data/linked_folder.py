"""A copy of a folder of images under other names, made of links. No torch."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from brain_mri.data.layout import BOX_COLUMNS, FolderLayout
from brain_mri.utils.files import write_table, written_whole


def lay_out(layout: FolderLayout, names: Mapping[str, str], folder: Path) -> Path:
    """Write images as links under other names into another folder, with their side tables.

    Args:
        layout: of the folder that has the images.
        names: `{file_name: name in the new folder}` of the images to write.
        folder: the new folder; it appears whole or not at all.
    """
    tables: dict[str, tuple[Sequence[str], Mapping[str, Sequence[object]]]] = {
        "patients.csv": (("patient_group",), {name: (group,) for name, group in layout.patient_groups().items()}),
        "boxes.csv": (BOX_COLUMNS, layout.boxes()),
        "review.csv": (("finding",), {name: (finding,) for name, finding in layout.findings().items()}),
    }
    linked: set[Path] = set()
    with written_whole(folder, folder=True) as partial:
        for image in (image for image in layout.images if image.file_name in names):
            target = partial / names[image.file_name]
            target.parent.mkdir(parents=True, exist_ok=True)
            source = image.path.resolve()
            if source in linked or not _link(source, target):
                shutil.copyfile(source, target)
            linked.add(source)
        for table, (columns, values) in tables.items():
            rows = [(names[name], *row) for name, row in values.items() if name in names]
            if rows or table == "patients.csv":
                write_table(partial / table, ("file_name", *columns), rows)
    return folder


def _link(source: Path, target: Path) -> bool:
    try:
        target.symlink_to(source)
    except OSError:  # a file system or an account without symbolic links
        return False
    return True
