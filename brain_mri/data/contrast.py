"""Random contrast, so that a network learns shapes and not the MRI sequence.

Domain randomisation of the intensities: random smooth curves (Zhou 2019, Models Genesis; Ouyang 2022,
causality-inspired single-source domain generalisation), bias fields, blur, noise and gamma (Billot 2023, SynthSeg); and
a plain grey frame, as in screenshots and slides.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_KNOTS = 7  # of a curve, evenly spaced from black to white
_FALLING = 0.2  # share of the curves that need not rise everywhere
_GAMMA = 0.35  # of its natural logarithm, either way
_BIAS = 0.3  # of the field's natural logarithm, at its knots
_BIAS_KNOTS = 4  # a side
_NOISE = 10.0  # largest standard deviation, of 255 levels
_EACH = 0.5  # chance of blur, of noise and of a bias field in a picture that is changed
_FRAMED = 0.2  # chance of a frame
_MARGIN = 0.25  # of the picture that a frame takes at most, along each axis
_LEVELS = 256


def vary_contrast(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Change the intensities of some images of a batch (batch, 3, H, W) in [0, 255]; the range stays.

    Args:
        images: float32, on any device.
        share: of the images that are changed, 0 to 1.
        generator: on the CPU; all numbers are drawn from it.
    """
    changed = torch.nonzero(torch.rand(len(images), generator=generator) < share)[:, 0]
    n, (height, width) = len(changed), images.shape[2:]
    if not n:
        return images
    picked = images[changed.to(images.device)]
    curves, bias, blur = _curves(n, generator), _bias(n, generator), _sometimes(n, 1.0, generator)
    noise = torch.randn(n, 1, height, width, generator=generator) * _sometimes(n, _NOISE, generator)
    picked = _along(curves.to(images.device), picked)
    field = functional.interpolate(bias.to(images.device), (height, width), mode="bicubic", align_corners=True)
    picked = _blurred(picked * field.exp(), blur.to(images.device)) + noise.to(images.device)
    result = images.clone()
    result[changed.to(images.device)] = picked.clamp(0, 255)
    return result


def frames(n: int, share: float, generator: torch.Generator) -> Tensor:
    """Places for plain frames in some of n images.

    Returns:
        Maps (n, 2, 3) from places in the framed picture to places in the one inside it, in the [-1, 1] coordinates of
        `affine_grid`; what comes to lie beyond is frame. The identity without one.
    """
    framed = torch.rand(n, generator=generator) < share * _FRAMED
    kept = 1 - _MARGIN * torch.rand(n, 2, generator=generator) * framed[:, None]
    shift = (1 - kept) * (2 * torch.rand(n, 2, generator=generator) - 1)  # of the middle: the whole picture stays
    return torch.cat([torch.diag_embed(1 / kept), (-shift / kept)[:, :, None]], dim=2)


def chained(first: Tensor, then: Tensor) -> Tensor:
    """The map (n, 2, 3) that takes a place by `first` and what that gives by `then`."""
    turned = then[:, :, :2] @ first
    turned[:, :, 2] += then[:, :, 2]
    return turned


def framed(images: Tensor, maps: Tensor, generator: torch.Generator) -> Tensor:
    """Images (n, 3, H, W) in [0, 255] with what `frames` put beyond the picture in one grey each, any grey."""
    greys = (255 * torch.rand(len(images), generator=generator)).to(images.device)
    shape = [len(images), 1, *images.shape[2:]]
    inside = functional.affine_grid(maps.to(images.device), shape, align_corners=False).abs().amax(dim=3) <= 1
    return torch.where(inside[:, None], images, greys[:, None, None, None])


def _curves(n: int, generator: torch.Generator) -> Tensor:
    """Smooth curves (n, levels), from 0, in [0, 255]."""
    steps = 0.15 + torch.rand(n, _KNOTS - 1, generator=generator)
    rising = functional.pad(steps.cumsum(dim=1) / steps.sum(dim=1, keepdim=True), (1, 0))
    anywhere = functional.pad(torch.rand(n, _KNOTS - 1, generator=generator), (1, 0))  # air stays dark
    falls = (torch.rand(n, 1, generator=generator) < _FALLING).float()
    knots = rising * (1 - falls) + (rising + anywhere) / 2 * falls
    gamma = (_GAMMA * (2 * torch.rand(n, 1, generator=generator) - 1)).exp()
    curves = functional.interpolate(knots[:, None] ** gamma[:, None], _LEVELS, mode="linear", align_corners=True)
    reach = _LEVELS // _KNOTS // 2
    smooth = functional.avg_pool1d(functional.pad(curves, (reach, reach), mode="replicate"), 2 * reach + 1, stride=1)
    return 255 * (smooth - smooth[..., :1])[:, 0].clamp(0, 1)


def _along(curves: Tensor, images: Tensor) -> Tensor:
    """Each value (n, 3, H, W) by its image's curve, linear between whole levels."""
    values = images.flatten(1)
    below = values.floor().long().clamp(0, _LEVELS - 2)
    low, high = curves.gather(1, below), curves.gather(1, below + 1)
    return (low + (values - below) * (high - low)).view_as(images)


def _bias(n: int, generator: torch.Generator) -> Tensor:
    """Logarithms of bias fields at their knots (n, 1, k, k), 0 where an image has none."""
    strength = _sometimes(n, _BIAS, generator)
    return torch.randn(n, 1, _BIAS_KNOTS, _BIAS_KNOTS, generator=generator) * strength


def _blurred(images: Tensor, share: Tensor) -> Tensor:
    """Mixed with their copy under a binomial filter of five pixels, (n, 1, 1, 1) of it."""
    taps = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=images.device) / 16
    kernel = torch.outer(taps, taps).expand(images.shape[1], 1, 5, 5)
    padded = functional.pad(images, (2, 2, 2, 2), mode="replicate")
    return images + share * (functional.conv2d(padded, kernel, groups=images.shape[1]) - images)


def _sometimes(n: int, most: float, generator: torch.Generator) -> Tensor:
    """Numbers (n, 1, 1, 1) from 0 to `most`, and 0 for about half of the images."""
    amount = most * torch.rand(n, 1, 1, 1, generator=generator)
    return amount * (torch.rand(n, 1, 1, 1, generator=generator) < _EACH)
