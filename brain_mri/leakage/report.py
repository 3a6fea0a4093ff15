"""The leakage audit as text and as a picture. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from brain_mri.io.images import read_image

_MOST_NAMED = 5  # unlisted near-duplicates in the table


def worst_pairs_picture(pairs: Sequence[dict[str, Any]], root: str | Path, path: str | Path) -> None:
    """Draw pairs of an audit's `worst_pairs` side by side, with names, labels and similarity, into a PNG file.

    Raises:
        ImageError: an image can't be read.
    """
    from matplotlib.figure import Figure

    columns = 2
    rows = max(1, -(-len(pairs) // columns))
    figure = Figure(figsize=(4.6 * columns, 2.7 * rows), layout="constrained")
    if not pairs:
        figure.text(0.5, 0.5, "No two images of this folder are twins.", ha="center", va="center")
    axes = figure.subplots(rows, 2 * columns, squeeze=False).ravel()
    for cell in axes:
        cell.set_axis_off()
    for k, pair in enumerate(pairs):
        for side in range(2):
            name, label = pair["images"][side], pair["labels"][side]
            note = f"{pair['orientation']}, r = {pair['similarity']:.3f}" if side else f"pair {k + 1}"
            axes[2 * k + side].imshow(read_image(Path(root) / name).convert("L"), cmap="gray", vmin=0, vmax=255)
            axes[2 * k + side].set_title(f"{Path(name).name}\n{name.split('/')[0]}: {label}\n{note}", fontsize=7)
    figure.savefig(path, dpi=110)


def format_table(report: dict[str, Any]) -> str:
    """Lay out an `audit` as text: splits, then what leaks within and between them, then twins with different labels."""
    lines = [
        f"{report['images']:,} images; twins correlate by {report['threshold']} or more in one of 8 orientations",
        "",
    ]
    for split, counts in report["splits"].items():
        labels = ", ".join(f"{n:,} {label}" for label, n in counts["labels"].items())
        lines.append(f"{split:<12}{counts['images']:>7,}  {labels}")
    lines += ["", f"{'':<24}{'pairs':>8}{'mirrored':>10}  images"]
    for kind, name in (("identical_files", "identical"), ("twins", "twins")):
        for key, counts in report[kind].items():
            lines.append(
                _format_counts(f"{name} {key}", counts["pairs"], counts.get("mirrored_share"), counts["images"])
            )
    for key, counts in report["patients"]["across"].items():
        lines.append(_format_counts(f"patients {key}", counts["groups"], None, counts["images"]))
    sets = report["clusters"]
    lines += [
        "",
        f"{sets['count']:,} sets of twins, the largest of {sets['largest']:,} images" if sets["count"] else "no twins",
    ]
    lines += [
        f"{label}: {found['pictures']:,} distinct pictures in {found['images']:,} images, the most copies "
        f"{found['largest']:,}"
        for label, found in report["distinct"].items()
    ]
    lines += _review_lines(report.get("review"))
    known = report["patients"]
    lines.append(f"patients are known for {known['known']:,} images ({known['groups']:,} groups)")
    for pair in report["different_labels"]:
        named = " and ".join(f"{n} ({label})" for n, label in zip(pair["images"], pair["labels"], strict=True))
        lines.append(f"different labels: {named}, {pair['orientation']}, r = {pair['similarity']:.3f}")
    return "\n".join(lines)


def _review_lines(review: dict[str, Any] | None) -> list[str]:
    if review is None:
        return ["no review.csv: no image is marked as being something else than its class says"]
    lines = [f"{review['images']:,} images are listed in review.csv as not what their class says:"]
    for split, labels in review["counts"].items():
        for label, findings in labels.items():
            named = ", ".join(f"{n:,} {finding}" for finding, n in findings.items())
            lines.append(f"  {split:<12}{label}: {named}")
    if unlisted := review["unlisted_twins"]:
        named = ", ".join(
            f"{twin['image']} (like {twin['like']}, {twin['finding']})" for twin in unlisted[:_MOST_NAMED]
        )
        more = " and others, see audit.json" if len(unlisted) > _MOST_NAMED else ""
        lines.append(f"  not listed, but near-duplicates of those: {len(unlisted):,}: {named}{more}")
    return lines


def _format_counts(name: str, pairs: int, mirrored: float | None, images: dict[str, int]) -> str:
    share = "" if mirrored is None else f"{mirrored:.0%}"
    return f"{name:<24}{pairs:>8,}{share:>10}  " + ", ".join(f"{n:,} of {split}" for split, n in images.items())
