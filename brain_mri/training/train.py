"""A run from options to a model folder: begin, prepare, audit, search, build, train, finalize, record, publish."""

from __future__ import annotations

import logging
from pathlib import Path

from accelerate import PartialState
from datasets import DatasetDict
from transformers import PreTrainedModel, TrainingArguments

from brain_mri.arguments import DataArguments, ModelArguments, RecipeArguments
from brain_mri.data.prepare import PreparedImages, fingerprint, prepare_images, split_images
from brain_mri.data.streaming import keep_record, known_images, open_stream
from brain_mri.data.training_images import training_images
from brain_mri.data.transforms import Preprocessing
from brain_mri.evaluation.predict import predict
from brain_mri.evaluation.results import write_model_card
from brain_mri.hub import publish
from brain_mri.labels import no_healthy_class
from brain_mri.models.build import build_config, build_model, build_processor
from brain_mri.models.evidence import rehearsed
from brain_mri.models.family import fit_options
from brain_mri.training import finalize, lineage, run
from brain_mri.training.build import build_trainer
from brain_mri.training.frozen import features_only
from brain_mri.training.identity import identity, settle
from brain_mri.training.search import search, search_begun
from brain_mri.training.teacher import Teacher
from brain_mri.utils.distributed import join_launch, same_in_all_processes
from brain_mri.utils.hardware import keep_freed_memory
from brain_mri.utils.options import TrainingOptions

logger = logging.getLogger(__name__)


def train(
    data_args: DataArguments,
    model_args: ModelArguments,
    recipe: RecipeArguments,
    options: TrainingOptions,
    started: float,
) -> list[str]:
    """Train a model and leave its folder whole.

    Args:
        data_args: which images.
        model_args: which network.
        recipe: how it is trained.
        options: those of transformers' trainer.
        started: the `time.time()` at which the command began.

    Returns:
        A line for each published repository; nothing without `--push_to_hub`.

    Raises:
        BrainMRIError: the options, the images, the folder or the Hub do not allow it.
    """
    join_launch()
    keep_freed_memory()
    args: TrainingArguments = options.build(TrainingArguments)
    destination = publish.destination_of(args)
    folder = run.begin(args)
    checkpoint = same_in_all_processes(run.checkpoint_to_resume(args))

    model_args, recipe = fit_options(model_args, recipe, options.told)
    preprocessing = Preprocessing.of(build_processor(build_config(model_args), model_args))
    teacher = Teacher.load(recipe.teacher, recipe.precision) if recipe.teacher else None
    images, splits = _prepare(data_args, preprocessing, teacher)
    this = identity(images, splits, (data_args, model_args, recipe, args))
    settle(this, folder, checkpoint or search_begun(folder), recipe.resume_with_changes)
    if data_args.streaming:
        splits["train"] = open_stream(data_args, args, recipe.search_trials, preprocessing, images)
        keep_record(splits["train"], folder, checkpoint)
    else:
        run.report(images, splits, data_args.twin_threshold, folder)
    with PartialState().local_main_process_first():
        trained_on = training_images(images, splits, data_args, recipe, preprocessing.size, args.seed)

    origins = lineage.origins(model_args, recipe.teacher, data_args, splits, fingerprint(images))
    if recipe.search_trials:
        names = images.label_names
        model_args, args = search(model_args, names, trained_on, preprocessing, recipe, args, folder, teacher)
    model = rehearsed(build_model(build_config(model_args), model_args, images.label_names))
    with features_only(model, trained_on, preprocessing, recipe, args.seed, teacher) as rows:
        trainer = build_trainer(model, rows, preprocessing, recipe, args, teacher=teacher)
        trainer.add_callback(clock := run.Clock(folder, started))
        trainer.train(checkpoint)

    arguments = (data_args, model_args, recipe)  # as they were used
    _finalize(trainer.model, splits, images.label_names, preprocessing, arguments, folder)
    run.save_history(trainer, folder, origins["stages"])
    run.save_run(folder, trainer, images, splits, [*arguments, args], origins, clock.seconds)
    write_model_card(folder)
    run.finish(trainer, folder, str(data_args.data_dir))
    return publish.publish_trained(folder, destination) if destination and PartialState().is_main_process else []


def _prepare(
    args: DataArguments, preprocessing: Preprocessing, teacher: Teacher | None
) -> tuple[PreparedImages, DatasetDict]:
    """Every image, read once by the first process of each machine, and the splits, whose classes a teacher knows."""
    with PartialState().local_main_process_first():
        images = prepare_images(args, preprocessing)
        splits = split_images(images, args)
    if teacher is not None:
        teacher.match(images.label_names)
    if said := no_healthy_class(images.label_names):  # before hours of training, not after them alone
        logger.warning("beware: %s", said)
    return images, splits


def _finalize(
    trained: PreTrainedModel,
    splits: DatasetDict,
    label_names: tuple[str, ...],
    preprocessing: Preprocessing,
    arguments: tuple[DataArguments, ModelArguments, RecipeArguments],
    folder: Path,
) -> None:
    """Calibrate on the validation split, save, export, fit the guard: in this order, whatever was there before."""
    data_args, model_args, recipe = arguments
    validation = splits["validation"]
    model = finalize.refine(trained, validation, preprocessing, recipe.final_output_stride)
    finalize.discard_products(folder)
    predictions = predict(model, validation, preprocessing, phase="Calibrating")
    if data_args.train_on_validation:
        lineage.carry_over(model_args.model, folder)
        finalize.refit_contour(predictions, validation, label_names, folder)
    else:
        finalize.calibrate(model, predictions, folder)
        finalize.measure_evidence(predictions, validation, label_names, folder)
    finalize.save_model(model, preprocessing, folder)
    if recipe.export:
        finalize.export(model, validation, preprocessing, folder)
        finalize.guard_if_possible(known_images(splits["train"]), validation, preprocessing, folder)
