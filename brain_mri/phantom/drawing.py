"""Drawing one synthetic slice from a seed.

Head, contrast, pose and noise are drawn without knowing the label: phantoms that differ in the label alone differ
only in and around the mass.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.random import Generator, default_rng
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter, map_coordinates

from brain_mri.errors import ConfigError
from brain_mri.labels import LABELS
from brain_mri.phantom.anatomy import SIGNAL, VIEWS, Box, Ellipse, View

PLANES = tuple(VIEWS)
MIN_SIZE = 64  # below it the word SYNTHETIC does not fit
STAMP = "SYNTHETIC"

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Phantom:
    """A synthetic slice.

    Attributes:
        image: a square picture of mode `L`.
        box: center_x, center_y, width, height of the mass without its oedema, fractions of the picture; None if none.
        plane: one of `PLANES`.
    """

    image: Image.Image
    box: Box | None
    plane: str


def draw_phantom(label: str, seed: int, size: int = 192, plane: str | None = None, slice_index: int = 0) -> Phantom:
    """Draw a synthetic slice; the same arguments give the same bytes.

    Args:
        label: one of `labels.LABELS`.
        seed: the synthetic patient, from 0: head shape, cortex and contrast.
        size: side of the square picture in pixels, at least `MIN_SIZE`.
        plane: one of `PLANES`; drawn from the seed where None.
        slice_index: which slice of that patient, from 0: pose, noise, place and size of the mass.

    Raises:
        ConfigError: an unknown label or plane, a negative seed or slice, a size too small.
    """
    _check_options(label, seed, size, plane, slice_index)
    scan = default_rng([2, seed, slice_index])
    plane = PLANES[scan.integers(3)] if plane is None else plane
    contrast = default_rng([1, seed])
    signal = _mix_signals(contrast)
    gain, gamma = contrast.uniform(0.72, 1.05), contrast.uniform(0.8, 1.35)
    x, y = _head_coordinates(scan, size)
    head = _Head(VIEWS[plane], default_rng([3, seed, PLANES.index(plane)]), x, y)
    canvas = head.paint(signal)
    mass = _paint_mass(canvas, label, head, signal, default_rng([4, seed, slice_index]))
    pixels = 255 * gain * _acquire(canvas**gamma, x, y, scan)
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    image.paste(*_stamp(size))
    return Phantom(image, _bounding_box(mass), plane)


def _check_options(label: str, seed: int, size: int, plane: str | None, slice_index: int) -> None:
    if label not in LABELS:
        raise ConfigError(f"unknown label {label!r}: choose one of {', '.join(LABELS)}.")
    if plane is not None and plane not in PLANES:
        raise ConfigError(f"unknown plane {plane!r}: choose one of {', '.join(PLANES)}.")
    if seed < 0 or slice_index < 0:
        raise ConfigError(f"seed {seed} and slice_index {slice_index} must be 0 or more.")
    if size < MIN_SIZE:
        raise ConfigError(f"size {size} is too small to bear the word {STAMP}: use {MIN_SIZE} pixels or more.")


def _mix_signals(rng: Generator) -> dict[str, float]:
    """Pick a weighting mixed with a little of the others, so that no two patients share their grey levels."""
    weights = 0.85 * np.eye(3)[rng.choice(3, p=(0.6, 0.2, 0.2))] + 0.15 * rng.dirichlet(np.ones(3))
    return {tissue: float(np.dot(weights, levels)) for tissue, levels in SIGNAL.items()}


def _head_coordinates(rng: Generator, size: int) -> tuple[Array, Array]:
    """Each pixel's place in the head under a random shift, rotation and field of view: x and y, `(size, size)` each."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1
    angle, zoom = np.deg2rad(rng.uniform(-8, 8)), rng.uniform(1.02, 1.22)
    shift_x, shift_y = rng.uniform(-0.04, 0.04, 2)
    x, y = (axis[None] - float(shift_x)) * zoom, (axis[:, None] - float(shift_y)) * zoom
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    return x * cos + y * sin, y * cos - x * sin


def _wobble(angle: Array, rng: Generator, roughness: float) -> Array:
    """Radius of an irregular outline around 1, as a short Fourier series of the angle."""
    radius = np.ones_like(angle)
    for order, height, phase in zip(range(2, 6), rng.normal(0, roughness, 4), rng.uniform(0, 6.28, 4), strict=True):
        radius += float(height) * np.cos(order * angle + float(phase))
    return np.maximum(radius, 0.5, out=radius)


def _cover(distance: Array) -> Array:
    """Turn a signed distance (head units, negative inside) into an antialiased cover in [0, 1]."""
    cover: Array = distance * (-0.4 * distance.shape[1])
    cover += 0.5
    return np.clip(cover, 0, 1, out=cover)


def _blend(canvas: Array, value: float, cover: Array) -> None:
    canvas += cover * (value - canvas)


class _Head:
    """One patient's head in one plane, on a pixel grid."""

    def __init__(self, view: View, rng: Generator, x: Array, y: Array) -> None:
        bend = [float(phase) for phase in rng.uniform(0, 6.28, 2)]  # keeps left and right from being mirror images
        self.x, self.y = x + 0.03 * np.sin(2.5 * y + bend[0]), y + 0.03 * np.sin(2.5 * x + bend[1])
        self.view, self.rng = view, rng
        self.center = view.cranium[:2]
        self.axes = view.cranium[2] * float(rng.uniform(0.90, 1.07)), view.cranium[3] * float(rng.uniform(0.92, 1.06))
        u, v = (self.x - self.center[0]) / self.axes[0], (self.y - self.center[1]) / self.axes[1]
        # Measured from the skin in units of the head's radius: 0 on it, -1 at the head's centre.
        self.skin = np.sqrt(u * u + v * v) / _wobble(np.arctan2(v, u), rng, 0.012) - 1
        self.scalp, skull = rng.uniform(0.04, 0.10), rng.uniform(0.05, 0.09)
        self.wall = float(self.scalp + skull)
        self.outside = np.maximum(self.skin + self.wall, self.y - np.interp(self.x, *view.base).astype(np.float32))
        self.rows = self.y.min(axis=1), self.y.max(axis=1)
        self.folds = self._draw_folds()

    def _draw_folds(self) -> Array:
        """A band-pass field of unit variance: its zero crossings wind like the brain's sulci."""
        white: Array = self.rng.standard_normal((96, 96), dtype=np.float32)
        width = self.rng.uniform(1.3, 1.9)
        field = gaussian_filter(white, width, truncate=3.0) - gaussian_filter(white, 2 * width, truncate=3.0)
        places = np.stack([self.y[::2, ::2], self.x[::2, ::2]]) * 38 + 48  # half the resolution is enough, and faster
        coarse: Array = map_coordinates(field / field.std(), places, order=1, mode="grid-wrap")
        return np.asarray(Image.fromarray(coarse).resize(self.x.shape[::-1], Image.Resampling.BILINEAR))

    def paint(self, signal: dict[str, float]) -> Array:
        """Paint everything but the mass; returns signal of about [0, 1], `(size, size)`."""
        canvas: Array = np.zeros_like(self.x)
        _blend(canvas, signal["scalp"], _cover(self.skin))
        _blend(canvas, signal["bone"], _cover(self.skin + float(self.scalp)))
        self._paint_ellipses(canvas, signal, self.view.under)
        _blend(canvas, signal["bone"], _cover(self.outside - 0.04))
        self._paint_brain(canvas, signal)
        return canvas

    def _paint_brain(self, canvas: Array, signal: dict[str, float]) -> None:
        inside, crease = _cover(self.outside), np.abs(self.folds)
        brain = np.full_like(canvas, signal["grey"])
        _blend(brain, signal["white"], np.clip((-self.outside - 0.16 + 0.12 * crease) * 9, 0, 1))
        self._paint_ellipses(brain, signal, self.view.inside)
        sulci = np.clip(1.3 - crease / 0.22, 0, 1) * np.clip((self.outside + 0.26) * 7, 0, 1)
        _blend(brain, signal["csf"], np.maximum(sulci, _cover(-0.02 - self.outside)))
        canvas += inside * (brain - canvas)

    def _paint_ellipses(self, canvas: Array, signal: dict[str, float], ellipses: tuple[Ellipse, ...]) -> None:
        fluid = self.rng.uniform(0.7, 1.5)  # narrow or wide ventricles
        for e in ellipses:
            grow = self.rng.uniform(0.9, 1.12) * (fluid if e.tissue == "csf" else 1.0)
            dx, dy = self.rng.uniform(-0.015, 0.015, 2)
            reach = 1.7 * max(e.rx, e.ry)  # rows farther away than the largest ellipse are left out, for speed
            within = np.flatnonzero((self.rows[1] > e.y - reach) & (self.rows[0] < e.y + reach))
            near = slice(within[0], within[-1] + 1) if len(within) else slice(0)
            x, y = np.abs(self.x[near]) if e.paired else self.x[near], self.y[near] - float(e.y + dy)
            cover = _ellipse_cover(x - float(e.x + dx), y, float(e.rx * grow), e.ry, e.tilt)
            canvas[near] += cover * (signal[e.tissue] - canvas[near])


def _ellipse_cover(x: Array, y: Array, rx: float, ry: float, tilt: float) -> Array:
    cos, sin = float(np.cos(np.deg2rad(tilt))), float(np.sin(np.deg2rad(tilt)))
    u, v = (x * cos + y * sin) / rx, (y * cos - x * sin) / ry
    return _cover((np.sqrt(u * u + v * v) - 1) * min(rx, ry))


def _paint_mass(canvas: Array, label: str, head: _Head, signal: dict[str, float], rng: Generator) -> Array:
    """Paint the label's mass and return its cover in [0, 1]; all 0 for `no_tumor`."""
    if label == "no_tumor":
        return np.zeros_like(canvas)
    x, y, radius = _place_mass(label, head, rng)
    roughness = {"glioma": 0.07, "meningioma": 0.03, "pituitary": 0.04}[label]
    u, v = head.x - x, head.y - y
    angle, distance = np.arctan2(v, u), np.sqrt(u * u + v * v)
    room = 1.0 if label == "pituitary" else _cover(head.outside)
    ragged = radius * (0.12 if label == "glioma" else 0.0) * head.folds
    mass = room * _cover(distance + ragged - radius * _wobble(angle, rng, roughness))
    bright = signal["tumor"] * float(rng.uniform(0.98, 1.12))
    if label != "glioma":
        _blend(canvas, bright, mass)
        return mass
    oedema = _cover((distance - radius * (0.3 + 1.2 * _wobble(angle, rng, roughness))) * 0.3)
    _blend(canvas, signal["oedema"], 0.85 * room * oedema)
    _blend(canvas, bright, mass)
    core = radius * float(rng.uniform(0.40, 0.68)) * _wobble(angle, rng, roughness)
    _blend(canvas, signal["necrosis"], mass * _cover(distance + ragged - core))
    return mass


def _place_mass(label: str, head: _Head, rng: Generator) -> tuple[float, float, float]:
    """Return the mass's centre and radius: in a hemisphere, on the dura or in the sella, as its kind grows."""
    view = head.view
    if label == "pituitary":
        x, y = rng.normal(view.sella, 0.015)
        return float(x), float(y), float(rng.uniform(0.10, 0.16))
    if label == "glioma":
        x = rng.choice((-1.0, 1.0)) * rng.uniform(*view.glioma[:2])
        return float(x), rng.uniform(*view.glioma[2:]), rng.uniform(0.19, 0.30)
    angle, radius = rng.uniform(*view.convexity), rng.uniform(0.14, 0.26)
    reach = 1 - head.wall - radius * rng.uniform(0.3, 0.8)  # centre within the radius of the dura: a broad base on it
    x, y = np.array(head.center) + np.array(head.axes) * reach * np.array((np.cos(angle), np.sin(angle)))
    return float(x), float(y), float(radius)


def _acquire(signal: Array, x: Array, y: Array, rng: Generator) -> Array:
    """Shade the signal by a smooth receive field and add Rician noise, as magnitude images have it.

    H. Gudbjartsson, S. Patz, "The Rician distribution of noisy MRI data", Magn. Reson. Med. 34, 1995.
    """
    slope_x, slope_y, bowl = (float(c) for c in rng.uniform(-0.15, 0.15, 3))
    shaded = signal * (1 + slope_x * x + slope_y * y + bowl * (x * x + y * y))
    noise = rng.standard_normal((2, *signal.shape), dtype=np.float32) * np.float32(rng.uniform(0.01, 0.05))
    noise[0] += shaded
    magnitude: Array = np.sqrt(noise[0] * noise[0] + noise[1] * noise[1])
    return magnitude


def _bounding_box(mass: Array) -> Box | None:
    rows, columns = np.nonzero(mass > 0.5)
    if not len(rows):
        return None
    size = len(mass)
    left, right = float(columns.min()) / size, float(columns.max() + 1) / size
    top, bottom = float(rows.min()) / size, float(rows.max() + 1) / size
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top


@lru_cache
def _stamp(size: int) -> tuple[Image.Image, tuple[int, int]]:
    """The word SYNTHETIC on a black strip, and where its upper left corner goes: bottom centre."""
    font = ImageFont.load_default_imagefont()
    left, top, right, bottom = font.getbbox(STAMP)
    strip = Image.new("L", (int(right - left) + 4, int(bottom - top) + 2))
    ImageDraw.Draw(strip).text((2, 1), STAMP, fill=150, font=font)
    return strip, ((size - strip.width) // 2, size - strip.height)
