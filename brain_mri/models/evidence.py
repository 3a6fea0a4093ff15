"""Evidence maps, which show where in a slice a class is seen, and training that guides them to the tumour.

For a classifier that is linear on average-pooled features,
`logit_k = mean over places of (w_k . features(place)) + b_k`. The map `w_k . features` is the class activation map
(Zhou 2016); here it is exact, and equal to Grad-CAM up to a positive factor (Selvaraju 2017, appendix A). It needs no
backward pass, so one forward pass gives logits and maps.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from timm.layers import SelectAdaptivePool2d
from torch import Tensor, nn
from transformers import PreTrainedModel

from brain_mri.inference.overlay import spline
from brain_mri.models.layers import classifier_of

_POOLINGS = (SelectAdaptivePool2d, nn.AdaptiveAvgPool2d)
_ANY_SIZE = 224  # pixels, for a network that takes any size, and whose configuration names none
_SMALLEST_MAP = 2  # places a side
_TOLERANCE = 1e-3  # of logits, which are of the order of 1
FINER = 4  # pixels a place and side, at which `extent_loss` compares the drawn map with the tumour


class FeatureTap:
    """Keeps the last input of a model's final pooling, `features` (batch, channels, h, w).

    A forward hook, so it works whoever calls the model: the trainer's compiled or distributed model, or `pipeline`.

    Raises:
        LookupError: the model's logits are no linear function of average-pooled features (see `has_evidence`).
    """

    def __init__(self, model: PreTrainedModel) -> None:
        pooling = _final_pooling(model)
        if pooling is None:
            raise LookupError("the classifier is not linear on average-pooled features: it has no exact evidence map")
        self.classifier = classifier_of(model)
        self.features: Tensor | None = None
        self._hook = pooling.register_forward_pre_hook(self._keep)

    def _keep(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.features = inputs[0]

    def take(self) -> Tensor:
        """The features of the last forward pass, once."""
        assert self.features is not None, "no forward pass since the last take"
        features, self.features = self.features, None
        return features

    def remove(self) -> None:
        """Remove the hook from the model."""
        self._hook.remove()


def has_evidence(model: PreTrainedModel) -> bool:
    """Whether the model's evidence maps are exact and have more than one place a side."""
    return _final_pooling(model) is not None


def evidence_maps(features: Tensor, classifier: nn.Module) -> Tensor:
    """One map per class, (batch, k, h, w); its mean plus the bias is the class's logit."""
    weight: Tensor = classifier.weight  # type: ignore[assignment]
    return torch.einsum("bchw,kc->bkhw", features, weight)


def guidance_loss(features: Tensor, classifier: nn.Module, labels: Tensor, coverage: Tensor) -> Tensor:
    """The loss that moves the true class's map onto the tumour: right for the right reasons (Ross 2017).

    The negative logarithm of the share of the map's spatial softmax that lies in the box, averaged over the images
    with a box; 0 if none has one.

    Args:
        features: (batch, channels, h, w), of `FeatureTap`.
        classifier: the linear layer that follows the pooling.
        labels: (batch,), the true classes.
        coverage: (batch, h, w) of `transforms.box_coverage`: 0 outside the box, 1 in its middle; all 0 without a box.
    """
    maps = _true_maps(features, classifier, labels)
    shares = maps.flatten(1).log_softmax(dim=1).exp()
    inside = (shares * coverage.flatten(1)).sum(dim=1)
    boxed = coverage.flatten(1).amax(dim=1) > 0
    losses = torch.where(boxed, -inside.clamp_min(torch.finfo(inside.dtype).tiny).log(), 0.0)
    return losses.sum() / boxed.sum().clamp_min(1)


def extent_loss(features: Tensor, classifier: nn.Module, labels: Tensor, coverage: Tensor) -> Tensor:
    """The loss that gives the true class's map the tumour's size.

    One minus the soft Dice overlap (Milletari 2016) of tumour and map, averaged over the images with a box; 0 if none
    has one. The map is taken as the overlay draws it: enlarged, its positive part, as a share of its peak. So a contour
    at a share of the peak lies round the tumour.

    Args:
        features: (batch, channels, h, w), of `FeatureTap`.
        classifier: the linear layer that follows the pooling.
        labels: (batch,), the true classes.
        coverage: (batch, FINER h, FINER w) of `transforms.box_coverage`.
    """
    maps = _true_maps(features, classifier, labels)
    rows, columns = (torch.from_numpy(spline(n, FINER * n)).to(maps) for n in maps.shape[1:])
    drawn = (rows @ maps @ columns.T).relu().flatten(1)
    drawn = drawn / drawn.amax(dim=1, keepdim=True).clamp_min(torch.finfo(drawn.dtype).tiny)
    tumor = coverage.flatten(1)
    boxed = tumor.amax(dim=1) > 0
    both = (drawn.square() + tumor.square()).sum(dim=1)
    dice = 2 * (drawn * tumor).sum(dim=1) / torch.where(boxed, both, 1.0)
    return torch.where(boxed, 1 - dice, 0.0).sum() / boxed.sum().clamp_min(1)


def _true_maps(features: Tensor, classifier: nn.Module, labels: Tensor) -> Tensor:
    """The map of each image's own class, (batch, h, w) float32."""
    weight: Tensor = classifier.weight  # type: ignore[assignment]
    return torch.einsum("bchw,bc->bhw", features.float(), weight[labels].float())


class OnePass(nn.Module):
    """A classifier that gives logits, embedding and evidence from one forward pass.

    Its float32 outputs, by name: `logits` (batch, k); `embedding` (batch, channels), the input of the last layer; if
    the model `has_evidence`, `evidence` (batch, k, h, w), see `evidence_maps`; of a timm model, `texture` (batch, 2 c),
    see `texture_of`. The guard reads `embedding` and `texture`.
    Activation checkpointing, which only training needs, is switched off.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        model.activation_checkpointing_disable()  # timm flattens its stages under it, in evaluation too: no hook fires
        self.model = model
        self._middle = middle_layer(model)
        further = (("evidence", has_evidence(model)), ("texture", self._middle is not None))
        self.output_names = ("logits", "embedding", *(name for name, there in further if there))

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """The outputs of normalised `pixel_values` (batch, 3, H, W), in the order of `output_names`."""
        head = classifier_of(self.model)
        seen: dict[str, Tensor] = {}
        hooks = [head.register_forward_pre_hook(lambda module, inputs: seen.update(embedding=inputs[0]))]
        if self._middle is not None:
            name, channels = self._middle
            hooks.append(
                self.model.get_submodule(name).register_forward_hook(
                    lambda module, inputs, output: seen.update(texture=texture_of(output, channels))
                )
            )
        if "evidence" in self.output_names:
            pooling = _poolings(self.model)[-1]
            hooks.append(pooling.register_forward_pre_hook(lambda module, inputs: seen.update(features=inputs[0])))
        try:
            logits = self.model(pixel_values=pixel_values).logits.float()
        finally:
            for hook in hooks:
                hook.remove()
        if "features" in seen:
            seen["evidence"] = evidence_maps(seen["features"].float(), head)
        return (logits, *(seen[name].float() for name in self.output_names[1:]))


def rehearsed(model: PreTrainedModel) -> PreTrainedModel:
    """The model, after one try of what its training is followed by: what fails there must not fail hours later."""
    tried = copy.deepcopy(model).eval()
    with torch.no_grad():
        OnePass(tried)(sample_picture(input_size(tried)).to(tried.device))
    return model


def middle_layer(model: PreTrainedModel) -> tuple[str, int] | None:
    """The name and channels of the last but one of the stages that timm lists; None without such a list.

    Later layers may drop what does not distinguish the classes, and with it what distinguishes a brain MRI from other
    pictures.
    """
    stages = getattr(getattr(model, "timm_model", None), "feature_info", None)
    if not stages or len(stages) < 2:
        return None
    return f"timm_model.{stages[-2]['module']}", int(stages[-2]["num_chs"])


def texture_of(features: Tensor, channels: int) -> Tensor:
    """Mean and standard deviation of each channel over all places, (batch, 2 channels).

    Args:
        features: (batch, channels, h, w), (batch, h, w, channels) or (batch, places, channels).
        channels: the number of channels, which shows their axis.
    """
    first = features.dim() == 4 and features.shape[1] == channels
    places = features.flatten(2) if first else features.flatten(1, -2).transpose(1, 2)
    mean = places.mean(dim=2)
    spread = (places - mean.unsqueeze(2)).square().mean(dim=2).sqrt()
    return torch.cat([mean, spread], dim=1)


def _poolings(model: PreTrainedModel) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, _POOLINGS)]


def _final_pooling(model: PreTrainedModel) -> nn.Module | None:
    """The last pooling, if the evidence maps before it add up to the logits of a test picture."""
    head = classifier_of(model)
    poolings = _poolings(model)
    if not isinstance(head, nn.Linear) or not poolings:
        return None
    seen: list[Tensor] = []
    hook = poolings[-1].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    training = model.training
    try:
        with torch.no_grad():
            logits = model.eval()(pixel_values=sample_picture(input_size(model)).to(model.device)).logits
    finally:
        hook.remove()
        model.train(training)
    if not seen or seen[-1].dim() != 4 or min(seen[-1].shape[2:]) < _SMALLEST_MAP:
        return None
    if seen[-1].shape[1] != head.in_features:  # the pooling of a part, such as the first half of a hybrid ViT
        return None
    with torch.no_grad():
        added_up = evidence_maps(seen[-1], head).mean(dim=(2, 3)) + head.bias
    return poolings[-1] if torch.allclose(added_up, logits, atol=_TOLERANCE) else None


def sample_picture(side: int) -> Tensor:
    """Noise of shape (1, 3, side, side), always the same, to compare two networks."""
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))


def input_size(model: PreTrainedModel) -> int:
    """Height and width, in pixels, of the model's input."""
    config: Any = model.config
    pretrained = getattr(config, "pretrained_cfg", None)
    return int(pretrained["input_size"][-1] if pretrained else getattr(config, "image_size", _ANY_SIZE))
