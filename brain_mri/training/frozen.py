"""Features of a frozen network, computed once: training then runs only the layers after them.

With every layer below the head frozen, the head sees the same features for the same picture in every epoch. So a few
augmented copies of each image go through the frozen part once, and the epochs go over what came out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from datasets import Dataset, DatasetDict, concatenate_datasets
from datasets.fingerprint import Hasher
from torch import Tensor
from transformers import PreTrainedModel

from brain_mri.arguments import RecipeArguments
from brain_mri.data.training_images import DRAW_GROUP
from brain_mri.data.transforms import Augmentation, Preprocessing, unpack
from brain_mri.errors import ConfigError
from brain_mri.models.layers import is_timm
from brain_mri.training.teacher import Teacher
from brain_mri.utils.hardware import autocast_dtype

FEATURES, TAUGHT = "features", "taught"
_BATCH = 32


@contextmanager
def features_only(
    model: PreTrainedModel, splits: DatasetDict, preprocessing: Preprocessing, recipe: RecipeArguments, seed: int,
    teacher: Teacher | None,
) -> Iterator[DatasetDict]:  # fmt: skip
    """In this block `model` takes features in the place of pixels, and so do the splits that are given.

    `datasets` keeps them in its cache, so that a resumed run and other processes find them there. With
    `recipe.cache_features` 0 nothing changes.

    Args:
        model: of timm, its layers below the head frozen.
        splits: with `train` and `validation`.
        preprocessing: the model's.
        recipe: with the augmentation, and `cache_features`: how many augmented copies of each training image there are.
        seed: of the augmentation.
        teacher: asked for its answers to the same copies.

    Yields:
        The splits: columns `features` (float16, as bytes), `label`, of train `taught` (the teacher's logits) if there
        is a teacher, and `draw_group` if there was one.

    Raises:
        ConfigError: a layer below the head is trained, or the features do not fit into half precision.
    """
    if not recipe.cache_features:
        yield splits
        return
    _check(model, preprocessing.size)
    network = model.timm_model.to(PartialState().device).eval()
    cache = _Cache(network, preprocessing, recipe, seed, teacher)
    with PartialState().local_main_process_first():
        copies = [cache.rows(splits["train"], copy) for copy in range(recipe.cache_features)]
        found = {"train": concatenate_datasets(copies), "validation": cache.rows(splits["validation"], None)}
    network.forward_features = lambda features: features
    try:
        yield DatasetDict(found)
    finally:
        del network.forward_features


def _check(model: PreTrainedModel, side: int) -> None:
    frozen = (
        is_timm(model.config) and not model.timm_model.forward_features(torch.zeros(2, 3, side, side)).requires_grad
    )
    if not frozen:
        raise ConfigError(
            "--cache_features: layers below the head are trained, so their output changes: freeze them with "
            "--freeze_until and the name of the head's first layer (a timm model's; pre_logits for VGG), or give 0."
        )


class _Cache:
    """The frozen part, as a function of rows of prepared images."""

    def __init__(
        self, network: Any, preprocessing: Preprocessing, recipe: RecipeArguments, seed: int, teacher: Teacher | None
    ) -> None:
        self._network, self._preprocessing, self._teacher, self._seed = network, preprocessing, teacher, seed
        self._augmentation = Augmentation(recipe)
        self._device = PartialState().device
        self._dtype = autocast_dtype(recipe.precision, self._device, network)
        weights = [value.cpu().numpy().tobytes() for value in network.state_dict().values()]
        taught_by = teacher.fingerprint() if teacher else ""
        self._key = Hasher.hash([*weights, preprocessing.key, vars(recipe), seed, str(self._dtype), taught_by])

    def rows(self, rows: Dataset, copy: int | None) -> Dataset:
        """The rows with features, of the augmented copy of that number; None: as validation sees them."""
        kept = {"label", DRAW_GROUP}
        return rows.map(
            self._features,
            fn_kwargs={"copy": copy},
            with_indices=True,
            batched=True,
            batch_size=_BATCH,
            remove_columns=[name for name in rows.column_names if name not in kept],
            new_fingerprint=Hasher.hash([self._key, rows._fingerprint, copy]),
            desc="Features" if copy is None else f"Features, copy {copy + 1}",
        )

    def _features(self, rows: dict[str, list[Any]], indices: list[int], copy: int | None) -> dict[str, list[Any]]:
        pixels = torch.from_numpy(np.stack([unpack(one, self._preprocessing.size) for one in rows["pixels"]]))
        pixels = pixels.to(self._device)
        dtype = None
        if copy is not None:
            drawn = np.random.SeedSequence([self._seed, copy, indices[0]]).generate_state(1, np.uint64)[0]
            pixels, _ = self._augmentation(pixels, torch.Generator().manual_seed(int(drawn >> 1)))
            dtype = self._dtype
        with torch.no_grad(), torch.autocast(self._device.type, dtype) if dtype else nullcontext():
            features = self._network.forward_features(self._preprocessing.normalize(pixels)).half().cpu()
        if not features.isfinite().all():
            raise ConfigError("--cache_features: this model's features exceed half precision; give 0.")
        found: dict[str, list[Any]] = {FEATURES: [one.numpy().tobytes() for one in features]}
        found["shape"] = [list(features.shape[1:])] * len(features)
        if self._teacher is not None and copy is not None:
            found[TAUGHT] = self._teacher(pixels).cpu().tolist()
        return found


def collate(rows: Iterable[dict[str, Any]]) -> dict[str, Tensor]:
    """Stack rows of features: `pixel_values` (batch, ...) float32, `labels` and perhaps `taught`."""
    rows = list(rows)
    features = np.stack([np.frombuffer(row[FEATURES], np.float16).reshape(row["shape"]) for row in rows])
    batch = {"pixel_values": torch.from_numpy(features).float(), "labels": torch.tensor([row["label"] for row in rows])}
    if TAUGHT in rows[0]:
        batch[TAUGHT] = torch.tensor([row[TAUGHT] for row in rows])
    return batch
