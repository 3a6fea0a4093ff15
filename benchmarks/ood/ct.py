"""How many head CT a model folder refuses, and how many MR slices it refuses beside them.

    python -m benchmarks.ood.ct release --data_dir DATA_DIR [--part choose] [--archives ARCHIVES]

Which images are CT is read from the folder's review.csv, where their finding is `ct`. Every other image is taken for
MR, so that what is refused as CT among them is listed by name: look at it. With --archives, the brain MRI of other
scanners found there is counted too (`benchmarks.ood.guard` says how to fill that folder).
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable, Iterator

from PIL import Image

from benchmarks.ood.pictures import brains_elsewhere
from brain_mri.data.image_folder import scan_folder
from brain_mri.data.layout import FolderLayout
from brain_mri.errors import run_command
from brain_mri.inference.classifier import BrainMRIClassifier
from brain_mri.inference.ct import ct_score
from brain_mri.io.images import read_image

CT = "ct"  # as review.csv calls it

Named = tuple[str, str, Image.Image]  # what it is counted under, its name, the picture


def pictures(layout: FolderLayout, part: str | None) -> Iterator[Named]:
    """The images of a folder, counted by split and class, the CT among them apart."""
    findings = layout.findings()
    parts = {name: row["part"] for name, row in layout.side_table("patients.csv", ("part",))} if part else {}
    for image in layout.images:
        if part and parts.get(image.file_name) != part:
            continue
        split = "" if image.split == "all" else f"{image.split} "
        kind = "head CT" if findings.get(image.file_name) == CT else image.label
        yield f"{split}{kind}", image.file_name, read_image(image.path)


def count(classifier: BrainMRIClassifier, images: Iterable[Named]) -> tuple[dict[str, list[int]], list[str]]:
    """How many of each kind there are, are refused as CT, and are refused at all; the names of MR refused as CT."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    suspects = []
    for kind, name, image in images:
        as_ct = ct_score(image) > 1
        refused = classifier.predict_images([image], [name])[0].verdict == "refused"
        counts[kind] = [n + more for n, more in zip(counts[kind], (1, as_ct, refused), strict=True)]
        if as_ct and "CT" not in kind:
            suspects.append(name)
    return counts, suspects


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder that train.py left")
    parser.add_argument("--data_dir", required=True, help="a folder of images")
    parser.add_argument("--part", help="only the patients of this part in its patients.csv (default: all)")
    parser.add_argument("--archives", help="folder of downloaded packages (default: none)")
    options = parser.parse_args()
    layout = scan_folder(options.data_dir)
    layout.check()
    classifier = BrainMRIClassifier.from_pretrained(options.model)
    counts, suspects = count(classifier, pictures(layout, options.part))
    if options.archives:
        elsewhere = (("brains elsewhere", str(i), image) for i, image in enumerate(brains_elsewhere(options.archives)))
        counts |= count(classifier, elsewhere)[0]
    print(f"{'':<24}{'images':>8}{'refused as CT':>16}{'refused':>10}")
    for kind, (n, as_ct, refused) in counts.items():
        print(f"{kind:<24}{n:>8}{as_ct:>16}{refused:>10}")
    print("\nrefused as CT, and not known to be CT:", ", ".join(suspects) or "none")


if __name__ == "__main__":
    run_command(main)
