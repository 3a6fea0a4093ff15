"""The leakage audit: which images of one split give away those of another. No torch.

    python -m brain_mri.leakage DATA_DIR [--output_dir outputs/audit]

Looked for are byte-identical files, near-duplicates (mirrored, turned, resized and recompressed copies included),
patients on both sides of a split where `patients.csv` names them, and twins that bear different labels. Contact sheets
help to find images that are not what their class says; a `review.csv` beside the splits lists them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from brain_mri.data.duplicates import THRESHOLD, clusters, near_duplicate_pairs
from brain_mri.data.image_folder import scan_folder
from brain_mri.errors import run_command
from brain_mri.leakage.audit import audit, headline, read_table
from brain_mri.leakage.contact_sheets import HOW_TO_LOOK, write_sheets
from brain_mri.leakage.report import format_table, worst_pairs_picture
from brain_mri.model_folder import AUDIT
from brain_mri.utils.files import write_json


def main(arguments: Sequence[str] | None = None) -> None:
    """Audit a folder from the command line."""
    parser = argparse.ArgumentParser(
        prog="brain-mri audit",
        description="Find copies, twins and patients shared between the splits of a folder of images.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("data_dir", help="a folder with split folders, class folders in them, images in these")
    parser.add_argument(
        "--output_dir",
        "--output",
        dest="output",
        default="outputs/audit",
        help="folder for audit.json and the pictures",
    )
    parser.add_argument("--threshold", type=float, default=THRESHOLD, help="correlation that makes two images twins")
    parser.add_argument("--processes", type=int, default=2, help="processes that read images")
    parser.add_argument("--pages", type=int, default=20, help="contact sheets of each kind and class, at most; 0: none")
    options = parser.parse_args(arguments)
    layout = scan_folder(options.data_dir)
    table = read_table(layout, options.processes)
    print("".join(f"{note}\n" for note in layout.notes), end="")
    pairs = near_duplicate_pairs(table.thumbnails, options.threshold)
    report = audit(table, options.threshold, pairs)
    output = Path(options.output)
    write_json(report, output / AUDIT)
    worst_pairs_picture(report["worst_pairs"], layout.root, output / "worst_pairs.png")
    print(f"{format_table(report)}\n\n{headline(report)}\nWritten to {output}/: audit.json, worst_pairs.png.")
    if options.pages > 0:
        sheets = write_sheets(table, clusters(len(table), pairs), layout.root, output / "sheets", options.pages)
        print(f"{len(sheets)} contact sheets in {output / 'sheets'}/. {HOW_TO_LOOK}")


if __name__ == "__main__":
    run_command(main)
