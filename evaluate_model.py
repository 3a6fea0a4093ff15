"""Judge a trained model on the test split of a folder of images; every image is counted once.

    python evaluate_model.py outputs/efficientnet --data_dir <folder>
    torchrun --nproc_per_node 2 evaluate_model.py outputs/efficientnet --data_dir <folder>    the same figures

Writes <model>/evaluation/results.json, every answer (predictions.csv) and the plots beside it.
"""

from __future__ import annotations

import time
from pathlib import Path

from accelerate import PartialState

from brain_mri import evaluation, protocols, run
from brain_mri.arguments import DataArguments, EvaluationArguments, parse
from brain_mri.data import fingerprint, prepare_images
from brain_mri.ensemble import PREDICTIONS
from brain_mri.errors import run_command
from brain_mri.evaluation import CALIBRATION
from brain_mri.files import read_json, write_json
from brain_mri.hardware import join_launch, keep_freed_memory
from brain_mri.scores import format_table


def main() -> None:
    """Parse, load the model, read the images, predict, judge, draw, write."""
    started = time.time()
    join_launch()
    keep_freed_memory()
    args, data_args = parse([EvaluationArguments, DataArguments], description=__doc__, positional="model_dir")
    run.set_up_console()
    model, preprocessing = evaluation.load_model(args)
    record = evaluation.run_record(args.model_dir)
    data_args = evaluation.trained_split_options(data_args, record)

    with PartialState().main_process_first():
        images = prepare_images(data_args, preprocessing)
        rows, which = evaluation.images_to_judge(images, data_args, record)
    rows = evaluation.with_model_labels(rows, images.label_names, model)
    predictions = evaluation.predict(model, rows, preprocessing, args.batch_size)

    if PartialState().is_main_process:
        names = evaluation.label_names_of(model)
        data = {"name": Path(str(data_args.data_dir)).name, "fingerprint": fingerprint(images)}
        is_own = not record or record["data_fingerprint"] == data["fingerprint"]
        figures = protocols.figures(predictions, rows, names, args.model_dir, audited=is_own)
        if is_own and (control := protocols.shortcut(images, rows, names)):
            figures["shortcut"] = control
        folder, results = evaluation.output_files(args, None if is_own else data["name"])
        evaluation.draw(predictions, figures["scores"], folder, read_json(Path(args.model_dir) / CALIBRATION))
        evaluation.draw_mistakes(predictions, rows, names, preprocessing.size, folder)
        evaluation.answers(predictions, rows, names).save(folder / PREDICTIONS)
        about = {"model": Path(args.model_dir).name, "images": which, "data": data}
        effort = {"seconds": round(time.time() - started, 1), "processes": PartialState().num_processes}
        write_json(about | effort | figures, results)
        run.adopt_patient_wise(args.patient_wise, results.parent)
        run.write_model_card(args.model_dir)
        print(f"{which} of {data_args.data_dir}\n{format_table(figures['scores'])}\n\nwritten to {results}")


if __name__ == "__main__":
    run_command(main)
