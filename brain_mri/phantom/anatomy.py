"""What `phantom.drawing` draws: grey levels of the tissues, and where they lie in each plane.

Head coordinates are about [-1, 1], x to the right and y downwards; sagittal faces look to the left.
"""

from __future__ import annotations

from typing import NamedTuple

Box = tuple[float, float, float, float]

# Signal under (T1 with contrast agent, T2, FLAIR) weighting, 1 = brightest.
SIGNAL = {
    "scalp": (0.80, 0.62, 0.58), "bone": (0.10, 0.08, 0.07), "air": (0.02, 0.02, 0.02), "muscle": (0.34, 0.24, 0.28),
    "csf": (0.15, 0.76, 0.12), "grey": (0.40, 0.60, 0.52), "white": (0.55, 0.42, 0.40), "vessel": (0.85, 0.10, 0.20),
    "tumor": (0.92, 0.90, 0.90), "necrosis": (0.16, 0.30, 0.18), "oedema": (0.30, 0.74, 0.72),
}  # fmt: skip


class Ellipse(NamedTuple):
    """A structure: tissue, centre, half-axes, tilt in degrees, and whether it has a twin on the other side."""

    tissue: str
    x: float
    y: float
    rx: float
    ry: float
    tilt: float = 0.0
    paired: bool = False


class View(NamedTuple):
    """A plane's anatomy: the cranium's centre and half-axes, what lies under it and in it, and where masses grow."""

    cranium: Box
    base: tuple[tuple[float, ...], tuple[float, ...]]  # the skull base as (x, y) of a polyline; no brain beneath
    under: tuple[Ellipse, ...]
    inside: tuple[Ellipse, ...]
    glioma: Box  # from x to x, from y to y of the centre; x of either sign
    convexity: tuple[float, float]  # angles (radians, 0 = right, clockwise) at which a meningioma may sit
    sella: tuple[float, float]


VIEWS = {
    "axial": View(
        cranium=(0.0, 0.0, 0.74, 0.92),
        base=((0.0, 1.0), (9.0, 9.0)),
        under=(),
        inside=(
            Ellipse("csf", 0.0, 0.0, 0.012, 0.86), Ellipse("grey", 0.16, 0.08, 0.10, 0.15, 25, True),
            Ellipse("csf", 0.11, -0.20, 0.055, 0.20, -22, True), Ellipse("csf", 0.20, 0.34, 0.055, 0.20, 24, True),
            Ellipse("csf", 0.0, 0.06, 0.025, 0.13), Ellipse("vessel", 0.0, 0.80, 0.035, 0.04),
        ),
        glioma=(0.24, 0.42, -0.48, 0.48), convexity=(-3.14, 3.14), sella=(0.0, -0.14),
    ),
    "coronal": View(
        cranium=(0.0, -0.12, 0.76, 0.80),
        base=((-0.8, -0.6, -0.42, -0.22, -0.14, 0.14, 0.22, 0.42, 0.6, 0.8),
              (0.20, 0.34, 0.42, 0.30, 0.18, 0.18, 0.30, 0.42, 0.34, 0.20)),
        under=(
            Ellipse("scalp", 0.0, 0.75, 0.56, 0.80), Ellipse("muscle", 0.0, 0.75, 0.50, 0.76),
            Ellipse("bone", 0.0, 0.50, 0.36, 0.20), Ellipse("air", 0.07, 0.42, 0.06, 0.09, 8, True),
            Ellipse("muscle", 0.36, 0.75, 0.10, 0.22, 12, True), Ellipse("air", 0.15, 0.76, 0.08, 0.13, 0, True),
        ),
        inside=(
            Ellipse("csf", 0.0, -0.55, 0.012, 0.36), Ellipse("white", 0.0, -0.22, 0.22, 0.05),
            Ellipse("csf", 0.12, -0.15, 0.045, 0.15, -58, True), Ellipse("grey", 0.19, 0.0, 0.10, 0.09, 0, True),
            Ellipse("csf", 0.0, 0.01, 0.022, 0.09), Ellipse("csf", 0.44, 0.16, 0.025, 0.06, 60, True),
            Ellipse("csf", 0.52, 0.04, 0.16, 0.018, -18, True), Ellipse("vessel", 0.0, -0.84, 0.035, 0.03),
        ),
        glioma=(0.26, 0.42, -0.48, 0.02), convexity=(-3.05, -0.10), sella=(0.0, 0.16),
    ),
    "sagittal": View(
        cranium=(0.04, -0.18, 0.88, 0.74),
        base=((-0.9, -0.5, -0.22, -0.08, 0.06, 0.16, 0.6, 0.9), (0.10, 0.16, 0.20, 0.32, 0.38, 0.46, 0.44, 0.30)),
        under=(
            Ellipse("scalp", 0.34, 0.90, 0.42, 0.95, -8), Ellipse("muscle", 0.34, 0.90, 0.35, 0.92, -8),
            Ellipse("scalp", -0.44, 0.56, 0.44, 0.56, 10), Ellipse("scalp", -0.86, 0.44, 0.12, 0.10, 40),
            Ellipse("muscle", -0.38, 0.58, 0.40, 0.50, 10), Ellipse("air", -0.56, 0.40, 0.22, 0.07, -6),
            Ellipse("air", -0.20, 0.38, 0.10, 0.08, 20), Ellipse("air", -0.02, 0.70, 0.05, 0.30, -8),
            Ellipse("air", -0.55, 0.72, 0.22, 0.02, 6), Ellipse("bone", 0.22, 0.95, 0.10, 0.48, -6),
            Ellipse("white", 0.20, 0.62, 0.06, 0.42, -4),
        ),
        inside=(
            Ellipse("white", -0.02, -0.20, 0.38, 0.19, -6), Ellipse("csf", 0.0, -0.16, 0.34, 0.13, -6),
            Ellipse("grey", 0.06, -0.05, 0.22, 0.12, 10), Ellipse("white", 0.13, 0.26, 0.10, 0.22, -22),
            Ellipse("csf", 0.27, 0.24, 0.045, 0.10, 10), Ellipse("grey", 0.44, 0.26, 0.21, 0.17, -10),
            Ellipse("white", 0.42, 0.26, 0.13, 0.035, 35), Ellipse("white", 0.42, 0.26, 0.13, 0.03, -40),
            Ellipse("csf", -0.05, 0.20, 0.09, 0.035, 20),
        ),
        glioma=(0.18, 0.50, -0.52, -0.20), convexity=(-3.05, -0.10), sella=(-0.14, 0.24),
    ),
}  # fmt: skip
