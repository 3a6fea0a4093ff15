"""The Trainer: augmentation and normalisation on the device, a weighted loss, averaged weights, exact resumption."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from sklearn.utils.class_weight import compute_class_weight
from timm.data import Mixup
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.nn import functional
from transformers import Trainer, TrainerCallback
from transformers.trainer_callback import ProgressCallback

from brain_mri.arguments import RecipeArguments
from brain_mri.data.streamed_split import StreamedSplit
from brain_mri.data.transforms import Augmentation, Preprocessing, box_coverage
from brain_mri.errors import ConfigError
from brain_mri.models.evidence import FINER, FeatureTap, extent_loss, guidance_loss, has_evidence
from brain_mri.models.layers import hold_frozen_statistics
from brain_mri.models.lora import merged
from brain_mri.training import checkpoints
from brain_mri.training.draws import Draws, FollowEpochs
from brain_mri.training.optim import parameter_groups, set_start_rates
from brain_mri.training.teacher import Teacher, distillation_loss
from brain_mri.utils.distributed import whole
from brain_mri.utils.hardware import autocast_dtype

if TYPE_CHECKING:
    from collections.abc import Iterator

_EMA_FILE = "ema.safetensors"


class MRITrainer(Trainer):
    """`transformers.Trainer` on uint8 pixels.

    Batches come from the collator as (batch, 3, H, W) uint8. The augmentation of a training batch is drawn from (seed,
    step, process), so that a resumed run draws the same. Dropout draws from torch's global state, which Trainer keeps
    in its checkpoints.
    """

    loss_is_scaled_for_ga = False  # the loss here is the mean of a micro-batch
    model: Any  # Trainer sets it

    def __init__(
        self,
        *args: Any,
        recipe: RecipeArguments,
        preprocessing: Preprocessing,
        label_ids: Sequence[int],
        draw_groups: Sequence[int] | None = None,
        teacher: Teacher | None = None,
        **kwargs: Any,
    ) -> None:
        """Args beyond Trainer's.

        Args:
            args: Trainer's.
            recipe: beyond TrainingArguments.
            preprocessing: the model's.
            label_ids: of the training images, for the weights of the classes and of the draws.
            draw_groups: of the training images, see `draws`; None draws each once an epoch.
            teacher: whose answers to the same images are learnt too.
            kwargs: Trainer's.
        """
        self.recipe = recipe
        self.teacher = teacher
        self.preprocessing = preprocessing
        self.ema: ModelEmaV3 | None = None
        self._tap: FeatureTap | None = None  # on the model while it is trained with guidance
        self._micro_step = (-1, 0)
        self.optimizer: torch.optim.Optimizer | None = None
        super().__init__(*args, **kwargs)
        self.model_accepts_loss_kwargs = False
        if self.pop_callback(ProgressCallback):
            self.add_callback(_OneBar)
        channels_last = recipe.channels_last and not self.is_fsdp_enabled  # FSDP shards contiguous weights only
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        classes = self.model.config.num_labels
        self.augmentation = Augmentation(recipe)
        self.dtype = autocast_dtype(recipe.precision, self.args.device, self.model)
        self.class_weights = _class_weights(recipe, label_ids, classes)
        self.mix = self._mixup(classes)
        self._draws = None if draw_groups is None else Draws(recipe.draw_by, draw_groups, label_ids, self.args.seed)
        if self._draws is not None:
            self.add_callback(FollowEpochs(self._draws))
        if recipe.ema_decay:
            self.add_callback(_AverageWeights(self))

    def _mixup(self, classes: int) -> Mixup | None:
        if not (self.recipe.mixup or self.recipe.cutmix):
            return None
        return Mixup(
            mixup_alpha=self.recipe.mixup,
            cutmix_alpha=self.recipe.cutmix,
            label_smoothing=self.args.label_smoothing_factor,
            num_classes=classes,
        )

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of a batch of uint8 pixels: cross-entropy; in training weighted, smoothed, mixed, taught, guided."""
        pixels, targets = inputs["pixel_values"], inputs["labels"]
        smoothing, theta = 0.0, None
        if model.training:
            hold_frozen_statistics(model)
            smoothing = self.args.label_smoothing_factor
        if model.training and not self.recipe.cache_features:
            generator = self._generator()
            pixels, theta = self.augmentation(pixels, generator, self._training_size())
            if self.mix is not None and len(pixels) % 2 == 0:  # timm mixes pairs of a batch
                with _numpy_seeded(generator):
                    pixels, targets = self.mix(pixels, targets)
                smoothing = 0.0  # the mixed targets include it
        cached = self.recipe.cache_features  # then they are features of normalised pixels, see `frozen`
        pixel_values = pixels if cached else self.preprocessing.normalize(pixels)
        pixel_values = pixel_values.contiguous(memory_format=self.memory_format)
        mixed_precision = model.training and self.dtype is not None
        with torch.autocast(pixels.device.type, self.dtype) if mixed_precision else nullcontext():
            logits = model(pixel_values=pixel_values).logits.float()
        weights = None if self.class_weights is None else self.class_weights.to(logits.device)
        loss = functional.cross_entropy(logits, targets, weights, label_smoothing=smoothing)
        if self.teacher is not None and model.training:
            taught = inputs["taught"] if cached else self.teacher(pixels)
            apart = distillation_loss(logits, taught, targets, self.recipe.teacher_temperature)
            loss = torch.lerp(loss, apart, self.recipe.teacher_weight)
        if theta is not None and self._tap is not None:
            loss = loss + self._guidance(self._tap.take(), self._tap.classifier, targets, inputs["boxes"], theta)
        return (loss, {"loss": loss, "logits": logits}) if return_outputs else loss

    def _guidance(
        self, features: Tensor, classifier: nn.Module, labels: Tensor, boxes: Tensor, theta: Tensor
    ) -> Tensor:
        """What the boxes of a batch add to its loss."""
        (height, width), loss = features.shape[2:], torch.zeros((), device=features.device)
        if self.recipe.guidance:
            coverage = box_coverage(boxes, theta, height, width)
            loss = loss + self.recipe.guidance * guidance_loss(features, classifier, labels, coverage)
        if self.recipe.guidance_extent:
            coverage = box_coverage(boxes, theta, FINER * height, FINER * width, ellipse=True)
            loss = loss + self.recipe.guidance_extent * extent_loss(features, classifier, labels, coverage)
        return loss

    def _training_size(self) -> int | None:
        """The side of this step's images: small at first (progressive resizing; Howard 2018), None for full size."""
        small = self.state.global_step < self.recipe.progressive_share * self.state.max_steps
        return self.recipe.progressive_size if small and self.recipe.progressive_size else None

    def _generator(self) -> torch.Generator:
        step, micro = self._micro_step
        self._micro_step = (step, micro + 1) if step == self.state.global_step else (self.state.global_step, 0)
        entropy = [self.args.seed, *self._micro_step, self.args.process_index]
        seed = int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)
        return torch.Generator().manual_seed(seed)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The optimizer of TrainingArguments, over `optim.parameter_groups`."""
        if self.optimizer is None:
            network = self.model if model is None else model
            groups = parameter_groups(network, self.recipe, self.args.learning_rate, self.args.weight_decay)
            optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args, network)
            self.optimizer = optimizer_class(groups, **options)
        optimizer: torch.optim.Optimizer = self.optimizer
        return optimizer

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        assert self.optimizer is not None, "Trainer makes it before it loads its state"
        rates = [group.get("initial_lr", group["lr"]) for group in self.optimizer.param_groups]
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            set_start_rates(self.optimizer, self.lr_scheduler, rates)

    def train(self, resume_from_checkpoint: Any = None, **kwargs: Any) -> Any:
        """Train; the model then has the best (or last) weights, averaged if the recipe averages."""
        try:
            result = super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)
        finally:
            if self._tap is not None:
                self._tap.remove()
                self._tap = None
        if self.ema is not None and not self.args.load_best_model_at_end:
            self.model.load_state_dict(self.ema.module.state_dict())
        # --bf16 and --fp16 leave their autocast around the forward pass, which float32 products must not have
        self.model = self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        if self.is_fsdp_enabled:
            self.model = whole(self.model)
        self.model = merged(self.model)
        return result

    def _prepare_for_training(self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: str | None) -> Any:
        self.model.to(memory_format=self.memory_format)
        if self.recipe.progressive_size and self.args.torch_compile:
            # Two fixed sizes, compiled once each, are faster than one graph for any size.
            torch._dynamo.config.automatic_dynamic_shapes = False
        if self.recipe.ema_decay:
            if self.is_fsdp_enabled or self.is_deepspeed_enabled:
                raise ConfigError("--ema_decay needs the whole model in each process: set it to 0 with FSDP.")
            self.ema = ModelEmaV3(self.model, decay=self.recipe.ema_decay, use_warmup=True)
            if resume_from_checkpoint:
                self.ema.module.load_state_dict(load_file(Path(resume_from_checkpoint) / _EMA_FILE))
        if self.recipe.is_guided and "box" in self.train_dataset.column_names:
            self._tap = self._guide()
        return super()._prepare_for_training(max_steps, train_dataloader, resume_from_checkpoint)

    def _guide(self) -> FeatureTap:
        if self.mix is not None:
            raise ConfigError(
                "--guidance or --guidance_extent with --mixup or --cutmix: a mixed image has no one box; set either "
                "to 0."
            )
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            raise ConfigError(
                "--guidance and --guidance_extent need the whole classifier in each process: set them to 0 with FSDP."
            )
        if not has_evidence(self.model):
            raise ConfigError(
                "--guidance, --guidance_extent: this model's classifier is not linear on average-pooled features, so "
                "it has no exact evidence map to guide; set them to 0."
            )
        return FeatureTap(self.model)

    def update_average(self) -> None:
        """Move the averaged weights towards the current ones; call it after every optimizer step."""
        if self.ema is not None:
            self.ema.update(self.model, step=self.state.global_step)

    def get_train_dataloader(self) -> Any:
        """Trainer's, or the stream's own, which is already divided among the processes."""
        if isinstance(self.train_dataset, StreamedSplit):
            return self.train_dataset.loader(self.args, self.data_collator, self.args.device)
        return super().get_train_dataloader()

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return super()._get_train_sampler(train_dataset) if self._draws is None else self._draws

    def _get_dataloader(
        self, dataset: Any, description: str, batch_size: int, sampler_fn: Any = None, **kwargs: Any
    ) -> Any:
        """Trainer's, but `dataloader_drop_last` only applies to training: an evaluation counts every image."""
        kept = self.args.dataloader_drop_last
        self.args.dataloader_drop_last = kept and bool(kwargs.get("is_training"))
        try:
            return super()._get_dataloader(dataset, description, batch_size, sampler_fn, **kwargs)
        finally:
            self.args.dataloader_drop_last = kept

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate the model, or during training its averaged weights, if there are any."""
        with self._averaged_weights():
            scores: dict[str, float] = super().evaluate(*args, **kwargs)
        return scores

    @contextmanager
    def _averaged_weights(self) -> Iterator[None]:
        if self.ema is None:
            yield
            return
        kept = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(self.ema.module.state_dict())
        try:
            yield
        finally:
            self.model.load_state_dict(kept)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        checkpoint = Path(self._get_output_dir(trial=trial)) / f"checkpoint-{self.state.global_step}"
        with checkpoints.saving(checkpoint, self.args.should_save, self.accelerator.wait_for_everyone):
            super()._save_checkpoint(model, trial)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        super()._save(output_dir, state_dict)
        if output_dir is not None and self.args.should_save:
            checkpoints.keep_names(Path(output_dir), self.model.state_dict() if state_dict is None else state_dict)
        if self.ema is not None and output_dir is not None and self.args.should_save:  # called in every process
            averaged = {name: value.contiguous() for name, value in self.ema.module.state_dict().items()}
            save_file(averaged, Path(output_dir) / _EMA_FILE)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """Refuse what Trainer only warns of: weights of which a part stays as it was."""
        if odd := [*load_result.missing_keys, *load_result.unexpected_keys]:
            raise ConfigError(
                f"the checkpoint holds the weights of another network ({len(odd)} tensors differ, {odd[0]} for one): "
                "start anew in another --output_dir."
            )

    def _load_best_model(self) -> None:
        checkpoints.check_whole(Path(self.state.best_model_checkpoint))
        super()._load_best_model()
        if self.ema is not None:
            self.model.load_state_dict(load_file(Path(self.state.best_model_checkpoint) / _EMA_FILE))


@contextmanager
def _numpy_seeded(generator: torch.Generator) -> Iterator[None]:
    """Seed numpy's global state, which timm's mixup draws from, from `generator` for the length of the block."""
    kept = np.random.get_state()
    np.random.seed(int(torch.randint(2**31, (), generator=generator)))
    try:
        yield
    finally:
        np.random.set_state(kept)


class _OneBar(ProgressCallback):
    """The bar of the training, and none of its own for each look at the validation images."""

    def on_prediction_step(self, *args: Any, **kwargs: Any) -> None:
        """No bar."""


class _AverageWeights(TrainerCallback):
    """Calls the trainer's `update_average` once the optimizer has stepped."""

    def __init__(self, trainer: MRITrainer) -> None:
        self.trainer = trainer

    def on_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        self.trainer.update_average()


def _class_weights(recipe: RecipeArguments, label_ids: Sequence[int], classes: int) -> Tensor | None:
    """Weights (classes,) inversely proportional to the classes' counts, their mean over the images being 1."""
    if recipe.class_weights == "none":
        return None
    weights = compute_class_weight("balanced", classes=np.arange(classes), y=np.asarray(label_ids))
    return torch.tensor(weights, dtype=torch.float32)
