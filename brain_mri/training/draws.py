"""Drawing the images of an epoch by cluster or patient."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler
from transformers import TrainerCallback

Ints = npt.NDArray[np.int64]


class Draws(Sampler[int]):
    """Indices of an epoch's images, drawn from (seed, epoch) alone: the same in every process and after a resume.

    - `cluster`: one image of each group, another one perhaps in the next epoch; as many as there are groups.
    - `patient`: as many as there are images, of each class as many as it has; an image is drawn in proportion to
      1/sqrt(images of its group in the class), so that of many slices of one patient each counts less. How often an
      image comes differs by less than one from what is due to it (systematic sampling).
    """

    def __init__(self, by: str, groups: Sequence[int], label_ids: Sequence[int], seed: int) -> None:
        """Prepare to draw.

        Args:
            by: `cluster` or `patient`.
            groups: a number for each image.
            label_ids: the class of each image.
            seed: of all epochs.
        """
        self.epoch, self._by, self._seed = 0, by, seed
        self._groups, self._labels = np.asarray(groups), np.asarray(label_ids)
        self._n = len(np.unique(self._groups)) if by == "cluster" else len(self._groups)

    def __len__(self) -> int:
        """Images in an epoch."""
        return self._n

    def __iter__(self) -> Iterator[int]:
        """The images of `self.epoch`, in random order."""
        rng = np.random.default_rng([self._seed, self.epoch])
        drawn = self._one_of_each(rng) if self._by == "cluster" else self._weighted(rng)
        return iter(rng.permutation(drawn).tolist())

    def _one_of_each(self, rng: np.random.Generator) -> Ints:
        shuffled = rng.permutation(len(self._groups))
        _, first = np.unique(self._groups[shuffled], return_index=True)
        chosen: Ints = shuffled[first]
        return chosen

    def _weighted(self, rng: np.random.Generator) -> Ints:
        drawn = []
        for label in np.unique(self._labels):
            members = rng.permutation(np.flatnonzero(self._labels == label))
            _, inverse, sizes = np.unique(self._groups[members], return_inverse=True, return_counts=True)
            reached = np.cumsum(1 / np.sqrt(sizes[inverse]))
            marks = (np.arange(len(members)) + rng.random()) * reached[-1] / len(members)
            drawn.append(members[np.searchsorted(reached, marks).clip(max=len(members) - 1)])
        return np.concatenate(drawn)


class FollowEpochs(TrainerCallback):
    """Tells the draws which epoch begins, which accelerate does only through some of its wrappers."""

    def __init__(self, draws: Draws) -> None:
        self._draws = draws

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A run resumed in the middle of an epoch starts it again and skips what it has seen."""
        self._draws.epoch = int(state.epoch or 0)
