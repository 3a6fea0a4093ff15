"""Pictures that are no brain MRI, drawn from a seed: pages, charts, noise, and phantoms of other parts of the body.

The body phantoms are rough: they have the outline and the grey levels of the real thing, no anatomy to learn from.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter

SIDE = 320

Floats = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator], Image.Image]

_WORDS = tuple(
    "the report of a patient visit was sent by post on Monday and the invoice for 120 hours is due in May "  # noqa: SIM905
    "total amount date name address signature please see page appendix table results are within range".split()
)
_Y, _X = np.mgrid[-1.0 : 1.0 : SIDE * 1j, -1.0 : 1.0 : SIDE * 1j]


def _grey(levels: Floats) -> Image.Image:
    """Levels in [0, 1] to a picture."""
    return Image.fromarray((np.clip(levels, 0, 1) * 255).astype(np.uint8)).convert("RGB")


def _posed(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Turned, stretched, shifted and with another gamma, so that no two phantoms are one picture with other noise."""
    angle, (x, y) = rng.normal(scale=6.0), rng.normal(scale=0.04, size=2) * SIDE
    turned = picture.rotate(angle, Image.Resampling.BILINEAR, translate=(int(x), int(y)))
    left, top, right, bottom = rng.uniform(-0.1, 0.15, 4) * SIDE
    box = (left, top, SIDE - right, SIDE - bottom)
    framed = turned.transform((SIDE, SIDE), Image.Transform.EXTENT, box, Image.Resampling.BILINEAR)
    gamma = 2 ** rng.uniform(-0.7, 0.7)
    return framed.point(lambda value: round(255 * (value / 255) ** gamma))


def _ellipse(x: float, y: float, width: float, height: float, angle: float = 0.0) -> Floats:
    """1 inside an ellipse of the half-axes given, 0 outside, with an edge of about two pixels."""
    dx, dy = _X - x, _Y - y
    along, across = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
    inside: Floats = np.clip((1 - np.hypot(along / width, across / height)) * 60 * min(width, height), 0, 1)
    return inside


def _texture(rng: np.random.Generator, scale: float) -> Floats:
    """Smooth noise of mean 0 and deviation 1; `scale` is its grain in pixels."""
    noise = gaussian_filter(rng.normal(size=(SIDE, SIDE)), scale)
    return np.asarray((noise - noise.mean()) / noise.std())


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = (int(v) for v in rng.integers(0, 256, 3))
    return red, green, blue


def document(rng: np.random.Generator) -> Image.Image:
    """A page of text lines, with a heading and now and then a table; one in three is white on black."""
    page = Image.new("RGB", (SIDE, int(SIDE * rng.uniform(0.8, 1.4))), "white")
    pen, size = ImageDraw.Draw(page), int(rng.integers(7, 16))
    font, y = ImageFont.load_default(size), int(rng.integers(8, 30))
    pen.text((20, y), " ".join(rng.choice(_WORDS, 3)).upper(), fill="black", font=ImageFont.load_default(2 * size))
    y += 3 * size
    while y < page.height - 2 * size:
        if rng.random() < 0.12:
            for column in range(20, SIDE - 60, 60):
                pen.rectangle((column, y, column + 60, y + 2 * size), outline="black")
            y += 2 * size
        pen.text((20, y), " ".join(rng.choice(_WORDS, int(rng.integers(3, 12)))), fill="black", font=font)
        y += int(size * 1.5)
    return page if rng.random() < 2 / 3 else page.point(lambda value: 255 - value)


def chart(rng: np.random.Generator) -> Image.Image:
    """Axes with bars or curves."""
    picture = Image.new("RGB", (SIDE, SIDE), "white")
    pen = ImageDraw.Draw(picture)
    pen.line((30, 20, 30, SIDE - 30, SIDE - 20, SIDE - 30), fill="black", width=2)
    n = int(rng.integers(4, 12))
    if rng.random() < 0.5:
        for i, height in enumerate(rng.uniform(20, 250, n)):
            left = 40 + i * 260 / n
            pen.rectangle((left, SIDE - 30 - height, left + 200 / n, SIDE - 30), fill=_colour(rng))
    else:
        for _ in range(int(rng.integers(1, 5))):
            points = np.cumsum(rng.normal(size=40)) * 12 + SIDE / 2
            pen.line([(35 + 6.8 * i, float(p)) for i, p in enumerate(points)], fill=_colour(rng), width=2)
    return picture


def drawing(rng: np.random.Generator) -> Image.Image:
    """Coloured shapes and strokes on a plain ground."""
    picture = Image.new("RGB", (SIDE, SIDE), _colour(rng))
    pen = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(3, 16))):
        x, y, width, height = rng.uniform((0, 0, 15, 15), (280, 280, 160, 160))
        shape = (pen.ellipse, pen.rectangle, pen.line)[int(rng.integers(3))]
        shape((x, y, x + width, y + height), fill=_colour(rng))
    return picture


def noise(rng: np.random.Generator) -> Image.Image:
    """White, pink or cloudy noise, grey or in colour, now and then in a dark disc frame."""
    channels = 3 if rng.random() < 0.3 else 1
    exponent = rng.choice([0.0, 1.0, 2.0])
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.fftfreq(SIDE)[None])
    frequency[0, 0] = 1 / SIDE
    planes = []
    for _ in range(channels):
        spectrum = np.fft.fft2(rng.normal(size=(SIDE, SIDE))) / frequency**exponent
        plane = np.fft.ifft2(spectrum).real
        planes.append(0.5 + rng.uniform(0.1, 0.3) * (plane - plane.mean()) / plane.std())
    levels = np.stack(planes * (3 // channels), axis=2)
    if rng.random() < 0.3:
        levels *= _ellipse(0, 0, 0.7, 0.8)[..., None]
    return Image.fromarray((np.clip(levels, 0, 1) * 255).astype(np.uint8))


def blank(rng: np.random.Generator) -> Image.Image:
    """One grey level, one colour, or a gradient; one in five all black."""
    kind = rng.integers(5)
    if kind == 0:
        return Image.new("RGB", (SIDE, SIDE))
    if kind < 3:
        return Image.new("RGB", (SIDE, SIDE), _colour(rng) if kind == 1 else (int(rng.integers(256)),) * 3)
    angle, level = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 1)
    ramp = _X * np.cos(angle) + _Y * np.sin(angle) if kind == 3 else 1 - np.hypot(_X, _Y) * 2 ** rng.uniform(-1, 1)
    return _grey(level * (ramp - ramp.min()) / np.ptp(ramp))


def pattern(rng: np.random.Generator) -> Image.Image:
    """A checkerboard, stripes or rings."""
    period, angle = rng.uniform(0.05, 0.5), rng.uniform(0, np.pi)
    along, across = _X * np.cos(angle) + _Y * np.sin(angle), _Y * np.cos(angle) - _X * np.sin(angle)
    wave = (np.sin(2 * np.pi * along / period), np.sin(2 * np.pi * np.hypot(_X, _Y) / period))
    checks = np.sign(wave[0]) * np.sign(np.sin(2 * np.pi * across / period))
    return _grey(0.5 + rng.uniform(0.2, 0.5) * (checks, wave[0], wave[1])[int(rng.integers(3))])


def chest_xray(rng: np.random.Generator) -> Image.Image:
    """A bright trunk, two dark lungs crossed by ribs, a heart and a spine."""
    body = 0.55 * _ellipse(0, 0.2, 1.0, 1.25) + 0.12 * _ellipse(0, 0.3, 0.16, 1.4)
    size = rng.uniform(0.9, 1.1)
    for side in (-1, 1):
        lung = _ellipse(0.42 * side, -0.05, 0.3 * size, 0.62 * size, -0.1 * side)
        ribs = np.clip(np.sin(22 * (_Y + 0.35 * (_X - 0.4 * side) ** 2 - 0.1 * side * _X)) - 0.6, 0, 1)
        body = body * (1 - 0.65 * lung) + 0.22 * lung * ribs
    body += 0.3 * _ellipse(0.14, 0.25, 0.3, 0.33)
    return _posed(_grey(gaussian_filter(body, 1.5) * rng.uniform(0.9, 1.3) + 0.02 * _texture(rng, 1.0)), rng)


def hand_xray(rng: np.random.Generator) -> Image.Image:
    """Five fingers of bones in faint flesh, over a palm."""
    picture = Image.new("L", (SIDE, SIDE))
    pen, spread = ImageDraw.Draw(picture), rng.uniform(0.14, 0.2)
    for width, level in ((26, 70), (11, 190)):
        for finger in range(5):
            angle = (finger - 2) * spread + rng.normal(scale=0.01)
            for joint, (start, end) in enumerate(((60, 125), (130, 175), (180, 205), (209, 228))):
                ends = [(160 + r * np.sin(angle), 290 - r * np.cos(angle)) for r in (start, end)]
                if not (finger in (0, 4) and joint == 3):
                    pen.line(ends, fill=level, width=width - joint * width // 10)
    pen.ellipse((130, 225, 190, 270), fill=150)
    pen.rectangle((140, 270, 180, SIDE), fill=140)
    levels = gaussian_filter(np.asarray(picture) / 255.0, 1.5)
    return _posed(_grey(levels + 0.02 * _texture(rng, 1.0)), rng)


def mammogram(rng: np.random.Generator) -> Image.Image:
    """A half-disc of cloudy tissue against the edge of a black picture."""
    breast = _ellipse(-1.0, rng.uniform(-0.1, 0.1), rng.uniform(0.9, 1.4), rng.uniform(0.7, 0.95))
    tissue = 0.4 + 0.1 * _texture(rng, 12.0) + 0.06 * _texture(rng, 3.0) - 0.15 * (_X + 1)
    levels = gaussian_filter(breast, 3) * (tissue + 0.25 * _ellipse(-0.95, -0.75, 0.35, 0.5, 0.5))
    picture = _grey(levels * rng.uniform(0.9, 1.5))
    return picture if rng.random() < 0.5 else picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def abdominal_ct(rng: np.random.Generator) -> Image.Image:
    """An oval of fat and organs with a bright spine and a table under it."""
    fat, inside = _ellipse(0, 0, 0.9, 0.66), _ellipse(0, 0.02, 0.8, 0.55)
    levels = 0.25 * fat + 0.2 * inside
    liver = _ellipse(-0.38 + rng.normal(scale=0.03), -0.08, 0.38, 0.34, 0.3)
    organs = (
        liver + _ellipse(0.52, -0.1, 0.2, 0.18) + _ellipse(-0.35, 0.28, 0.1, 0.13) + _ellipse(0.35, 0.28, 0.1, 0.13)
    )
    levels += 0.2 * np.clip(organs, 0, 1) - 0.35 * _ellipse(0.15, -0.3, 0.2, 0.1, rng.uniform(-0.4, 0.4))
    levels += (
        0.6 * _ellipse(0, 0.34, 0.13, 0.11) + 0.5 * _ellipse(0, 0.5, 0.04, 0.1) + 0.2 * _ellipse(0.05, 0.16, 0.06, 0.06)
    )
    table = 0.5 * (np.abs(_Y - 0.8 - 0.12 * -(_X**2)) < 0.012) * (np.abs(_X) < 0.8)
    return _posed(_grey(levels + table + 0.03 * _texture(rng, 0.8)), rng)


def knee_mri(rng: np.random.Generator) -> Image.Image:
    """Two bright bone ends with a dark rim, cartilage between and muscle around, fading to black."""
    flesh = _ellipse(0, 0, 0.62, 1.3) * (0.25 + 0.05 * _texture(rng, 6.0))
    tilt = rng.uniform(-0.1, 0.1)
    for y, height in ((-0.6, 0.6), (0.65, 0.6)):
        flesh = flesh * (1 - _ellipse(0, y, 0.42, height, tilt)) + 0.65 * _ellipse(0, y, 0.38, height - 0.04, tilt)
    flesh += 0.4 * _ellipse(-0.5, -0.25, 0.09, 0.2)
    shading = np.exp(-((_Y / 0.9) ** 4)) * rng.uniform(0.8, 1.2)
    return _posed(_grey(gaussian_filter(flesh, 1.0) * shading + 0.02 * _texture(rng, 0.7)), rng)


def ultrasound(rng: np.random.Generator) -> Image.Image:
    """A speckled fan with dark cysts, on black."""
    angle, depth = np.arctan2(_X, _Y + 1.15), np.hypot(_X, _Y + 1.15)
    fan = (np.abs(angle) < rng.uniform(0.45, 0.75)) & (depth > 0.3) & (depth < 2.0)
    tissue = 0.35 + 0.12 * _texture(rng, 14.0)
    for _ in range(int(rng.integers(1, 4))):
        tissue *= 1 - 0.9 * _ellipse(rng.uniform(-0.4, 0.4), rng.uniform(-0.3, 0.6), *rng.uniform(0.07, 0.25, 2))
    return _grey(fan * tissue * rng.rayleigh(0.8, (SIDE, SIDE)) * np.exp(-0.3 * depth))


GENERATORS: dict[str, tuple[Draw, ...]] = {
    "document": (document,),
    "drawing": (drawing, chart),
    "noise": (noise,),
    "blank": (blank,),
    "pattern": (pattern,),
    "xray": (chest_xray, hand_xray),
    "mammogram": (mammogram,),
    "ct": (abdominal_ct,),
    "mri_elsewhere": (knee_mri,),
    "ultrasound": (ultrasound,),
}
"""What can be drawn of each kind."""
