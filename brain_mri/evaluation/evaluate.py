"""An evaluation from options to files: load, choose images, predict, measure, draw, write."""

from __future__ import annotations

import time
from pathlib import Path

from accelerate import PartialState

from brain_mri.arguments import DataArguments, EvaluationArguments
from brain_mri.data.prepare import prepare_images
from brain_mri.evaluation import results
from brain_mri.evaluation.figures import draw, draw_mistakes
from brain_mri.evaluation.predict import label_names_of, load_model, predict, prediction_table
from brain_mri.evaluation.results import adopt_patient_wise, write_model_card
from brain_mri.evaluation.served import predict_served
from brain_mri.evaluation.test_images import (
    data_record,
    images_to_evaluate,
    only_part,
    output_files,
    run_record,
    trained_split_options,
    with_model_labels,
)
from brain_mri.model_folder import CALIBRATION, PREDICTIONS
from brain_mri.utils.distributed import join_launch
from brain_mri.utils.files import read_json, write_json
from brain_mri.utils.hardware import keep_freed_memory
from brain_mri.utils.logging import set_up_console


def evaluate(args: EvaluationArguments, data_args: DataArguments, started: float) -> str:
    """Evaluate a model on images, and write the figures into its folder.

    Args:
        args: which model, where its figures go.
        data_args: which images.
        started: the `time.time()` at which the command began.

    Returns:
        The figures as a table, and where they are; nothing except in the main process.

    Raises:
        BrainMRIError: the model, the images or the folder can't be used.
    """
    join_launch()
    keep_freed_memory()
    set_up_console()
    model, preprocessing = load_model(args)
    record = run_record(args.model_dir)
    data_args = trained_split_options(data_args, record)

    with PartialState().main_process_first():
        images = prepare_images(data_args, preprocessing)
        rows, which = images_to_evaluate(images, data_args, record)
        rows = only_part(rows, data_args.data_dir, args.part, data_args.columns)
    rows = with_model_labels(rows, images.label_names, model)
    predictions = predict(model, rows, preprocessing, args.batch_size)

    if not PartialState().is_main_process:
        return ""
    names = label_names_of(model)
    data = data_record(images, data_args.data_dir, args.part, args.data_name)
    is_own = not args.part and (not record or record["data_fingerprint"] == data["fingerprint"])
    served = predict_served(args.model_dir, rows, preprocessing.size)
    figures = results.figures(predictions, rows, names, args.model_dir, audited=is_own, served=served)
    if is_own and (control := results.shortcut(images, rows, names)):
        figures["shortcut"] = control
    folder, results_file = output_files(args, None if is_own else data["name"])
    draw(predictions, figures["scores"], folder, read_json(Path(args.model_dir) / CALIBRATION))
    draw_mistakes(predictions, rows, names, preprocessing.size, folder)
    prediction_table(predictions, rows, names).save(folder / PREDICTIONS)
    about = {"model": Path(args.model_dir).name, "images": which, "data": data}
    effort = {"seconds": round(time.time() - started, 1), "processes": PartialState().num_processes}
    write_json(about | effort | figures, results_file)
    adopt_patient_wise(args.patient_wise, results_file.parent)
    write_model_card(args.model_dir)
    beware = results.beware(args.model_dir)
    return f"{beware}{which} of {data_args.data_dir}\n{results.in_words(figures)}\n\nwritten to {results_file}"
