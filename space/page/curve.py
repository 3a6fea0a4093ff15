"""The slice-by-slice curve as numbers for an SVG: drawn by the browser, no plotting library."""

from __future__ import annotations

from typing import Any

from brain_mri.inference.predictions import VolumePrediction
from page.service import Service
from page.texts import Texts

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 78, 12, 12, 46


def curve(service: Service, volume: VolumePrediction, t: Texts) -> dict[str, Any]:
    """One broken line per class, with a gap where a slice has no answer."""
    count = len(volume.slices)
    known = [p.is_answered for p in volume.slices]
    lines, peaks = [], []
    for label in service.classifier.label_names:
        shares = [p.probabilities[label] if known[i] else None for i, p in enumerate(volume.slices)]
        lines.append({"name": t.label(label), "path": _path(shares), "dots": _lone_dots(shares)})
        if seen := [(share, i) for i, share in enumerate(shares) if share is not None]:
            share, i = max(seen, key=lambda item: (item[0], -item[1]))
            peaks.append(t("curve_peak", label=t.label(label), slice=i + 1, score=t.percent(share, 0)))
    threshold = service.threshold
    summary = "; ".join(peaks) + "." if peaks else t("curve_gap")
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "right": WIDTH - RIGHT,
        "top": TOP,
        "bottom": HEIGHT - BOTTOM,
        "lines": lines,
        "y_ticks": [(round(_y(share), 1), t.percent(share, 0)) for share in (0, 0.25, 0.5, 0.75, 1)],
        "x_ticks": [(round(_x(i, count), 1), i + 1) for i in _ticks(count)],
        "threshold": round(_y(threshold), 1) if threshold is not None and threshold <= 1 else None,
        "gaps": not all(known),
        "alt": t("curve_alt", count=count, summary=summary),
    }


def _x(i: int, count: int) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (i / (count - 1) if count > 1 else 0.5)


def _y(share: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - share)


def _ticks(count: int) -> list[int]:
    return (
        sorted({round(k * (count - 1) / min(count - 1, 6)) for k in range(min(count - 1, 6) + 1)}) if count > 1 else [0]
    )


def _path(shares: list[float | None]) -> str:
    """The `d` of an SVG path."""
    words = []
    pen_down = False
    for i, share in enumerate(shares):
        if share is not None:
            words.append(f"{'L' if pen_down else 'M'}{_x(i, len(shares)):.1f} {_y(share):.1f}")
        pen_down = share is not None
    return " ".join(words)


def _lone_dots(shares: list[float | None]) -> list[tuple[float, float]]:
    """Slices with a gap on both sides, of which a line shows nothing."""
    padded = [None, *shares, None]
    lone = [i for i, share in enumerate(shares) if share is not None and padded[i] is None and padded[i + 2] is None]
    return [(round(_x(i, len(shares)), 1), round(_y(shares[i] or 0.0), 1)) for i in lone]
