"""Images sorted into class folders: `<class>/<image>`, or `<class>/<patient>/.../<image>`. No torch."""

from __future__ import annotations

from pathlib import Path

from brain_mri.data.folder_files import FoundFile, list_files, sub_folders
from brain_mri.data.layout import FolderLayout, ImageFile, split_of
from brain_mri.labels import canonical_label

# Folders that people have inside a class and that are no patients.
_OTHER_FOLDERS = frozenset(
    {"image", "images", "img", "imgs", "picture", "pictures", "slice", "slices", "png", "jpg", "jpeg", "dicom", "dcm",
     "data", "raw", "processed", "original", "originals", "augmented", "augmentation", "aug", "copy", "copies", "new",
     "old", "extra", "axial", "sagittal", "coronal", "ax", "sag", "cor", "t1", "t2", "t1c", "t1ce", "t1w", "t2w",
     "t1gd", "flair", "dwi", "adc", "swi", "pd", "ct", "mr", "mri", "pet"}
)  # fmt: skip
_MASK_FOLDERS = frozenset(
    {"mask", "masks", "seg", "segmentation", "segmentations", "label", "labels", "annotation", "annotations",
     "groundtruth"}
)  # fmt: skip


def scan_classes(layout: FolderLayout, folder: Path, split: str) -> None:
    """Add the images of a folder of classes to `layout`, each with its class folder's name as label."""
    stray = list_files(folder, _shown(layout, folder), deepest=0).images
    if stray:
        layout.problems.append(
            f"{len(stray)} images in {folder.name}/ lie outside a class folder ({stray[0].inner} ...): move them into "
            "folders named after their class, or add a labels.csv with the columns file_name and label"
        )
    documents: list[str] = []
    for class_folder in sub_folders(folder):
        name = _shown(layout, class_folder)
        listing = list_files(class_folder, name)
        layout.problems += listing.problems
        documents += [name + inner for inner in listing.documents]
        if not listing.images and not listing.problems:
            layout.problems.append(f"no image in the class {name}: fill or remove it")
        patients = _patients_are_meant(layout, name, listing.images)
        layout.images += [_image(file, name, split, class_folder.name, patients) for file in listing.images]
    if documents:
        layout.notes.append(left_out(documents))


def left_out(documents: list[str]) -> str:
    """A note that counts and names files that are no pictures."""
    many = "1 file is no picture" if len(documents) == 1 else f"{len(documents)} files are no pictures"
    return f"{many} and left out ({', '.join(documents[:3])}{' ...' if len(documents) > 3 else ''})"


def note_patients(layout: FolderLayout) -> None:
    """Say where patients come from, if folders say it; a table wins, see `FolderLayout.patient_groups`."""
    named = [image.patient for image in layout.images if image.patient]
    if named:
        layout.notes.append(
            f"the folders inside the classes are taken as patients: {len(set(named)):,} in {len(named):,} images; "
            "folders of one name are one patient, wherever they lie; a patients.csv takes their place"
        )


def _shown(layout: FolderLayout, folder: Path) -> str:
    inner = folder.relative_to(layout.root).as_posix()
    return "" if inner == "." else f"{inner}/"


def _image(file: FoundFile, name: str, split: str, label: str, patients: bool) -> ImageFile:
    patient = file.inner.split("/")[0] if patients and "/" in file.inner else None
    return ImageFile(file.path, name + file.inner, split, label, file.kind, patient)


def _patients_are_meant(layout: FolderLayout, name: str, images: list[FoundFile]) -> bool:
    """Whether the folders in a class are patients; each that can't be one is a problem."""
    folders = sorted({file.inner.split("/")[0] for file in images if "/" in file.inner})
    direct = sum("/" not in file.inner for file in images)
    problems = [problem for folder in folders if (problem := _no_patient(name, folder))]
    problems += _mask_folders(name, images)
    if folders and direct and not problems:
        problems = [
            f"{name}{folders[0]}/ lies inside a class beside {direct} images: move its images up or away, or put every "
            "image into the folder of its patient"
        ]
    layout.problems += problems
    return bool(folders) and not problems


def _no_patient(name: str, folder: str) -> str | None:
    """What is wrong with a folder inside a class, if its name says that it is no patient."""
    if split_of(folder):
        return f"{name}{folder}/ is a split inside a class: put the splits above the classes, {folder}/{name}"
    if not any(map(str.isdigit, folder)) and canonical_label(folder) is not None:
        return f"{name}{folder}/ is a class inside another folder: move its images up, or the folder to the classes"
    if _word(folder) in _OTHER_FOLDERS:
        return (
            f"{name}{folder}/ lies inside a class, and is no patient by its name: move its images up or away "
            "(folders inside a class are taken as patients)"
        )
    return None


def _mask_folders(name: str, images: list[FoundFile]) -> list[str]:
    """A problem for each folder, however deep in a class, that holds outlines instead of slices."""
    found = {folder for file in images for folder in file.inner.split("/")[:-1] if _word(folder) in _MASK_FOLDERS}
    return [f"{name} holds masks, in {folder}/: move them away, or they would be learnt as slices" for folder in found]


def _word(folder: str) -> str:
    return folder.lower().replace("_", "").replace("-", "")
