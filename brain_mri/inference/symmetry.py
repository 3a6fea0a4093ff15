"""How unlike the two sides of the head are in what the model sees there. No torch."""

from __future__ import annotations

import numpy as np

from brain_mri.inference.onnx_model import Float32
from brain_mri.inference.postprocess import FloatArray


def asymmetry(evidence: Float32, of_mirrored: Float32) -> FloatArray:
    """The mean difference of the evidence at a place and at its mirror image, left to right, over places and classes.

    A head is its own control. A tumour is seldom alike on both sides, while the contrast of an unknown scanner, which
    shifts the probabilities, shifts both sides alike. Compared are the model's maps, since the pixels of healthy slices
    differ as much. Each map is averaged with that of the mirrored picture, so that what the network itself sees
    differently on the left and on the right cancels. It is made for slices that show both sides: of a sagittal one it
    says little.

    Args:
        evidence: (n, k, h, w), of the pictures: what each place adds to each class's logit, in nats.
        of_mirrored: (n, k, h, w), of the same pictures mirrored left to right.

    Returns:
        (n,), in nats, 0 where both sides are alike.
    """
    maps = (evidence.astype(np.float64) + of_mirrored[..., ::-1]) / 2
    return np.asarray(np.abs(maps - maps[..., ::-1]).mean(axis=(1, 2, 3)), dtype=np.float64)
