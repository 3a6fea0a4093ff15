"""Fine-tune a classifier of brain-MRI slices on a folder of images. Research and teaching only, never diagnosis.

    python train.py configs/quickstart.yaml --data_dir <folder>                 a minute on a laptop's CPU
    accelerate launch train.py configs/efficientnet.yaml --data_dir <folder>    one GPU or several
    torchrun --nproc_per_node 2 train.py configs/efficientnet.yaml --data_dir <folder>    several CPU processes

Stopped at any moment, the same command with --resume_from_checkpoint goes on and ends at the same weights.
"""

from __future__ import annotations

import time

from accelerate import PartialState
from transformers import TrainingArguments

from brain_mri.arguments import DataArguments, ModelArguments, RecipeArguments
from brain_mri.data.prepare import prepare_images, split_images
from brain_mri.data.streaming import keep_record, known_images, open_stream
from brain_mri.data.training_images import training_images
from brain_mri.data.transforms import Preprocessing
from brain_mri.errors import run_command
from brain_mri.evaluation.predict import predict
from brain_mri.evaluation.results import write_model_card
from brain_mri.hub import publish
from brain_mri.models.build import build_config, build_model, build_processor
from brain_mri.training import finalize, lineage, run
from brain_mri.training.build import build_trainer
from brain_mri.training.search import search
from brain_mri.utils.argument_parser import parse
from brain_mri.utils.distributed import join_launch, same_in_all_processes
from brain_mri.utils.hardware import keep_freed_memory


def main() -> None:
    """Parse, seed, read the data, audit it, build, train, save."""
    started = time.time()
    join_launch()
    keep_freed_memory()
    kinds = [DataArguments, ModelArguments, RecipeArguments, TrainingArguments]
    data_args, model_args, recipe, training_args = parse(kinds, description=__doc__)
    destination = publish.destination_of(training_args)
    folder = run.begin(training_args)
    checkpoint = same_in_all_processes(run.checkpoint_to_resume(training_args))

    config = build_config(model_args)
    preprocessing = Preprocessing.of(build_processor(config, model_args))
    with PartialState().local_main_process_first():
        images = prepare_images(data_args, preprocessing)
        splits = split_images(images, data_args)
    if data_args.streaming:
        splits["train"] = open_stream(data_args, training_args, recipe.search_trials, preprocessing, images)
        keep_record(splits["train"], folder, checkpoint)
    else:
        run.report(images, splits, data_args.twin_threshold, folder)
    with PartialState().local_main_process_first():
        trained_on = training_images(images, splits, data_args, recipe, preprocessing.size, training_args.seed)

    if recipe.search_trials:
        model_args, training_args = search(
            model_args, images.label_names, trained_on, preprocessing, recipe, training_args
        )
    model = build_model(build_config(model_args), model_args, images.label_names)
    trainer = build_trainer(model, trained_on, preprocessing, recipe, training_args)
    trainer.add_callback(clock := run.Clock(folder, started))
    trainer.train(checkpoint)

    model = finalize.refine(trainer.model, splits["validation"], preprocessing, recipe.final_output_stride)
    finalize.discard_products(folder)
    validation = splits["validation"]
    if data_args.train_on_validation:
        lineage.carry_over(model_args.model, folder)
    else:
        predictions = predict(model, validation, preprocessing)
        finalize.calibrate(model, predictions, folder)
        finalize.judge_evidence(predictions, validation, images.label_names, folder)
    finalize.save_model(model, preprocessing, folder)
    if recipe.export:
        finalize.export(model, validation, preprocessing, folder)
        finalize.fit_guard(known_images(splits["train"]), validation, preprocessing, folder)
    run.save_history(trainer, folder)
    run.save_run(folder, trainer, images, splits, [data_args, model_args, recipe, training_args], clock.seconds)
    write_model_card(folder)
    run.finish(trainer, folder)
    if destination and PartialState().is_main_process:
        print(*publish.publish_trained(folder, destination), sep="\n")


if __name__ == "__main__":
    run_command(main)
