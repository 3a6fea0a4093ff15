"""The image processor's own preprocessing in two halves, a cached one and one per batch, and the augmentation.

`Preprocessing.pixels` resizes, to uint8 that `datasets` caches; `Preprocessing.normalize` does the rest for a batch on
the training device. Together they give what the saved processor gives, and so `pipeline`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from brain_mri.arguments import RecipeArguments
from brain_mri.data.contrast import chained, framed, frames, vary_contrast
from brain_mri.errors import ConfigError
from brain_mri.io.images import one_channel

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Preprocessing:
    """A model's image processor, in a cached and a per-batch half.

    Attributes:
        processor: the transformers image processor saved with the model.
        size: height and width of its output, in pixels.
        mean: per channel, for pixels in [0, 1].
        std: per channel, for pixels in [0, 1].
        plain: whether the processor resizes exactly as Pillow does, so that Pillow alone is enough.
    """

    processor: Any
    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    plain: bool = False

    @classmethod
    def of(cls, processor: Any) -> Preprocessing:
        """Read mean, std and size from a processor, and check on a test picture that the two halves give its result.

        Raises:
            ConfigError: the processor does something other than resize, rescale by 1/255 and normalise.
        """
        settings = getattr(processor, "data_config", None) or {
            "mean": processor.image_mean if processor.do_normalize else (0.0,) * 3,
            "std": processor.image_std if processor.do_normalize else (1.0,) * 3,
        }
        noise = np.random.default_rng(0).integers(0, 256, (700, 500, 3), dtype=np.uint8)
        picture, larger = Image.fromarray(noise[:90, :70]), Image.fromarray(noise)
        expected = processor(picture, return_tensors="pt")["pixel_values"]
        mean, std = (tuple(float(v) for v in settings[key]) for key in ("mean", "std"))
        preprocessing = cls(processor, int(expected.shape[-1]), mean, std)  # type: ignore[arg-type]
        pixels = torch.from_numpy(preprocessing.pixels(picture))[None]
        if not torch.allclose(preprocessing.normalize(pixels), expected, atol=1e-5):
            raise ConfigError(
                f"the preprocessing of {type(processor).__name__} is not resize, rescale and normalise: "
                "choose a model with an ordinary image processor."
            )
        plain = replace(preprocessing, plain=True)
        same = all(np.array_equal(plain.pixels(one), preprocessing.pixels(one)) for one in (picture, larger))
        return plain if same else preprocessing

    @property
    def key(self) -> str:
        """A hash of all that affects the pixels; equal keys may share a cache."""
        settings = json.dumps(self.processor.to_dict(), sort_keys=True, default=str)
        return hashlib.sha256(settings.encode()).hexdigest()

    @property
    def resample(self) -> Image.Resampling:
        """How the processor resizes."""
        settings = getattr(self.processor, "data_config", None)
        if settings is None:
            return Image.Resampling(int(self.processor.resample))
        return Image.Resampling[str(settings["interpolation"]).upper()]

    def pixels(self, image: Image.Image) -> Pixels:
        """Resize a picture as the processor does; returns uint8 of shape (3, size, size)."""
        if self.plain:
            return self._resized(image)
        values = self.processor(image.convert("RGB"), return_tensors="pt")["pixel_values"][0]
        mean, std = (torch.tensor(v)[:, None, None] for v in (self.mean, self.std))
        levels: Pixels = ((values * std + mean) * 255).round().clamp(0, 255).to(torch.uint8).numpy()
        return levels

    def _resized(self, image: Image.Image) -> Pixels:
        """Resize by Pillow, only one channel if all are equal, as in nearly every slice: a third of the time."""
        size = (self.size, self.size)
        if (image := one_channel(image)).mode == "L":
            return np.repeat(np.asarray(image.resize(size, self.resample))[None], 3, axis=0)
        return np.array(image.resize(size, self.resample)).transpose(2, 0, 1)

    def normalize(self, pixels: Tensor) -> Tensor:
        """Turn uint8 pixels (batch, 3, H, W), or floats in [0, 255], into the network's float32 `pixel_values`."""
        mean = torch.tensor(self.mean, device=pixels.device)[:, None, None]
        std = torch.tensor(self.std, device=pixels.device)[:, None, None]
        return (pixels.float() / 255 - mean) / std


def pack(pixels: Pixels) -> bytes:
    """Pixels (3, H, W) as bytes; only one channel if all three are equal, as in nearly every MRI slice."""
    grey = bool((pixels[0] == pixels[1]).all() and (pixels[0] == pixels[2]).all())
    return (pixels[:1] if grey else pixels).tobytes()


def unpack(data: bytes, size: int) -> Pixels:
    """Undo `pack`; returns uint8 of shape (3, size, size)."""
    pixels = np.frombuffer(data, dtype=np.uint8).reshape(-1, size, size)
    return np.broadcast_to(pixels, (3, size, size))


class Collator:
    """Stacks rows of a prepared dataset into a batch.

    `pixel_values` (batch, 3, size, size) uint8, `labels` (batch,) and, if the rows have a `box`, `boxes` (batch, 4)
    float32: center x, center y, width and height as fractions of the image, NaN if unknown.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Stack the rows."""
        pixels = np.stack([unpack(row["pixels"], self.size) for row in rows])
        batch = {"pixel_values": torch.from_numpy(pixels), "labels": torch.tensor([row["label"] for row in rows])}
        if "box" in rows[0]:
            batch["boxes"] = torch.tensor([row["box"] for row in rows], dtype=torch.float32)
        return batch


class Augmentation:
    """Random geometry and intensity for a whole batch at once, on whatever device it is on.

    Every number is drawn from the generator given, on the CPU: the same generator gives the same batch on every
    device, in every process and after a resume.
    """

    def __init__(self, recipe: RecipeArguments) -> None:
        self.recipe = recipe

    def __call__(self, pixels: Tensor, generator: torch.Generator, size: int | None = None) -> tuple[Tensor, Tensor]:
        """Augment a batch (batch, 3, H, W) of values in [0, 255].

        Returns:
            The images as float32 in the same range; with `size` as (batch, 3, size, size), scaled in the same
            resampling that turns and shifts them. And the maps (batch, 2, 3) that say where each place comes from, as
            `affine_grid` takes them, so that a box can follow its image.
        """
        images = pixels.float()
        n = len(images)
        theta = self._affine(n, generator)
        gain = 1 + self._uniform(n, self.recipe.contrast, generator).to(images.device)
        offset = 1 + self._uniform(n, self.recipe.brightness, generator).to(images.device)
        height, width = (size, size) if size else images.shape[2:]
        share = self.recipe.contrast_variation
        inner = frames(n, share, generator) if share else None
        theta = (theta if inner is None else chained(inner, theta)).to(images.device)
        grid = functional.affine_grid(theta, [n, 3, height, width], align_corners=False)
        images = functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        images = (images - mean) * gain[:, None, None, None] + mean
        images = (images * offset[:, None, None, None]).clamp(0, 255)
        if inner is not None:
            images = framed(vary_contrast(images, share, generator), inner, generator)
        return images, theta

    def _affine(self, n: int, generator: torch.Generator) -> Tensor:
        """Inverse maps (n, 2, 3) in the [-1, 1] coordinates of `affine_grid`, of square images."""
        angle = torch.deg2rad(self._uniform(n, self.recipe.rotation, generator))
        scale = 1 / (1 + self._uniform(n, self.recipe.zoom, generator))
        shift = torch.stack([2 * self._uniform(n, self.recipe.translation, generator) for _ in range(2)], dim=1)
        flip = torch.where(torch.rand(n, generator=generator) < self.recipe.horizontal_flip, -1.0, 1.0)
        cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
        rows = [torch.stack([cos * flip, -sin], dim=1), torch.stack([sin * flip, cos], dim=1)]
        return torch.cat([torch.stack(rows, dim=1), shift[:, :, None]], dim=2)

    @staticmethod
    def _uniform(n: int, limit: float, generator: torch.Generator) -> Tensor:
        return (torch.rand(n, generator=generator) * 2 - 1) * limit


_SAMPLES = 4  # per side of a place of the map: a box covers it in sixteenths


def box_coverage(boxes: Tensor, theta: Tensor, height: int, width: int, ellipse: bool = False) -> Tensor:
    """How much of each place of an augmented image's map the image's box covers.

    Args:
        boxes: (batch, 4), fractions of the image before augmentation, from `Collator`; NaN for none.
        theta: (batch, 2, 3), of `Augmentation`.
        height: of the map, in places.
        width: of the map, in places.
        ellipse: take the ellipse that touches the box's sides, which is closer to a tumour than its corners are.

    Returns:
        (batch, height, width) float32: the covered share of each place, divided by the largest share of the map, so
        that small boxes count like others. All 0 without a box, or with one outside the image.
    """
    shape = [len(boxes), 1, height * _SAMPLES, width * _SAMPLES]
    source = (functional.affine_grid(theta, shape, align_corners=False) + 1) / 2  # (batch, H, W, 2), x before y
    box = boxes.to(theta.device)[:, None, None]
    distance = (2 * (source - box[..., :2]) / box[..., 2:]).abs()  # 1 at the box's sides
    inside = (distance.square().sum(dim=-1) if ellipse else distance.amax(dim=-1)) <= 1  # False where a box is NaN
    coverage = functional.avg_pool2d(inside[:, None].float(), _SAMPLES)[:, 0]
    largest = coverage.amax(dim=(1, 2), keepdim=True)
    return coverage / torch.where(largest > 0, largest, 1.0)
