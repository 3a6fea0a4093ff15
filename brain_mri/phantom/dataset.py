"""Sets of synthetic slices as image folders: fixture of the tests, data of the offline quickstart."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
from numpy.random import SeedSequence
from PIL.PngImagePlugin import PngInfo

from brain_mri.errors import ConfigError, DataError
from brain_mri.labels import LABELS
from brain_mri.phantom.drawing import MIN_SIZE, PLANES, Phantom, draw_phantom
from brain_mri.utils.files import write_table, written_whole

__all__ = ["MIN_SIZE", "PLANES", "Phantom", "draw_phantom", "write_phantoms"]

NOTICE = "Synthetic phantom drawn by brain_mri.phantom: not a patient, not for diagnosis."


def write_phantoms(
    folder: str | Path,
    train_per_class: int = 60,
    test_per_class: int = 20,
    seed: int = 0,
    size: int = 192,
    slices_per_patient: int = 3,
) -> Path:
    """Write phantoms as an image folder: `train/<class>/`, `test/<class>/`, `patients.csv`, `boxes.csv`, `README.md`.

    The slices of a synthetic patient share head and contrast; a patient is in one split only. The folder appears whole
    or not at all.

    Returns:
        The folder.

    Raises:
        DataError: the folder exists and is not empty.
        ConfigError: a number is out of range.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} exists and is not an empty folder: name a new one, or remove it first.")
    if min(train_per_class, slices_per_patient) < 1 or min(test_per_class, seed) < 0 or size < MIN_SIZE:
        raise ConfigError(
            f"train_per_class {train_per_class} and slices_per_patient {slices_per_patient} must be 1 or more, "
            f"test_per_class {test_per_class} and seed {seed} 0 or more, size {size} at least {MIN_SIZE}."
        )
    target = folder.absolute()  # so that "." has a name
    with written_whole(target, folder=True) as partial:
        _write_set(partial, {"train": train_per_class, "test": test_per_class}, seed, size, slices_per_patient)
        if target.exists():
            target.rmdir()
    return folder


def _write_set(folder: Path, per_class: dict[str, int], seed: int, size: int, slices_per_patient: int) -> None:
    patients: list[tuple[str, str]] = []
    boxes: list[tuple[str, float, float, float, float]] = []
    patient = -1
    for (split, count), label in product(per_class.items(), LABELS):
        for index in range(count):
            slice_index = index % slices_per_patient
            patient += slice_index == 0
            name = f"{split}/{label}/synthetic_{label}_{patient:04d}_{slice_index}.png"
            phantom = _patient_slice(label, seed, patient, slice_index, size)
            _save(phantom, folder / name)
            patients.append((name, f"synthetic_{patient:04d}"))
            if phantom.box:
                boxes.append((name, *phantom.box))
    write_table(folder / "patients.csv", ("file_name", "patient_group"), patients)
    write_table(folder / "boxes.csv", ("file_name", "center_x", "center_y", "width", "height"), boxes)
    (folder / "README.md").write_text(f"# Synthetic phantoms\n\n{NOTICE}\n", encoding="utf-8")


def _patient_slice(label: str, seed: int, patient: int, slice_index: int, size: int) -> Phantom:
    """Draw one slice of a set's patient; three slices in a row show the three planes."""
    patient_seed = int(SeedSequence([seed, patient]).generate_state(1, np.uint64)[0])
    return draw_phantom(label, patient_seed, size, PLANES[(patient + slice_index) % 3], slice_index)


def _save(phantom: Phantom, path: Path) -> None:
    notice = PngInfo()
    notice.add_text("Comment", NOTICE)
    path.parent.mkdir(parents=True, exist_ok=True)
    phantom.image.save(path, pnginfo=notice)
