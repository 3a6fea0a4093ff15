"""How training scales with processes: measured with one and two on this CPU.

    python -m benchmarks.scaling [configs/small_cnn.yaml] [--steps 20] [any option of train.py]

The loop of train.py on synthetic phantoms, random weights, median of the steps after a warm-up; each line is a launch
of its own, by torchrun. Wants a machine that does nothing else. Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_ROOT = Path(__file__).resolve().parents[1]
_WARM_UP = 5  # steps
_STEPS = 20
_BATCH = 32  # of the recipes


@dataclass(frozen=True)
class Layout:
    """One line of the measured table.

    Attributes:
        processes: that train together.
        threads: of each.
        batch: images per process and step.
    """

    processes: int
    threads: int
    batch: int


_LAYOUTS = (Layout(1, 1, _BATCH), Layout(1, 2, _BATCH), Layout(2, 1, _BATCH // 2), Layout(2, 1, _BATCH))


def measured(words: Sequence[str], steps: int) -> str:
    """The table of `_LAYOUTS`."""
    lines = [
        "| processes | threads of each | batch of each | global batch | seconds per step (middle half) | images/s |"
        " against the first line |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    first = 0.0
    for layout in _LAYOUTS:
        slow, median, fast = np.quantile(_launch(layout, words, steps), (0.75, 0.5, 0.25))
        together = layout.processes * layout.batch
        speed = together / median
        first = first or speed
        lines.append(
            f"| {layout.processes} | {layout.threads} | {layout.batch} | {together} | "
            f"{median:.3f} ({fast:.3f} to {slow:.3f}) | {speed:.1f} | {speed / first:.2f} x |"
        )
    return "\n".join(lines)


def _launch(layout: Layout, words: Sequence[str], steps: int) -> list[float]:
    """Seconds of each step of one launch of this script's `worker`."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc_per_node", str(layout.processes), __file__, "worker", folder, str(steps), *words]
        command += ["--per_device_train_batch_size", str(layout.batch)]
        cache = {"HF_DATASETS_CACHE": f"{folder}/cache", "OMP_NUM_THREADS": str(layout.threads)}
        done = subprocess.run(command, env=os.environ | cache, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
        seconds: list[float] = json.loads((Path(folder) / "seconds.json").read_text())
    return seconds


def worker(folder: Path, steps: int, words: Sequence[str]) -> None:
    """One process of a launch: train for some steps as train.py does; the main one writes `seconds.json`."""
    from accelerate import PartialState
    from transformers import TrainingArguments

    from brain_mri.arguments import DataArguments, ModelArguments, RecipeArguments
    from brain_mri.data.prepare import prepare_images, split_images
    from brain_mri.data.transforms import Preprocessing
    from brain_mri.models.build import build_config, build_model, build_processor
    from brain_mri.phantom.dataset import write_phantoms
    from brain_mri.training.build import build_trainer
    from brain_mri.utils.argument_parser import parse
    from brain_mri.utils.distributed import join_launch
    from brain_mri.utils.hardware import keep_freed_memory
    from brain_mri.utils.logging import set_up_console

    join_launch()
    keep_freed_memory()
    data = folder / "phantoms"
    with PartialState().main_process_first():
        if PartialState().is_main_process:
            write_phantoms(data, train_per_class=4 * _BATCH, test_per_class=2, size=128)
    fixed = ["--data_dir", str(data), "--output_dir", str(folder / "run"), "--pretrained", "false"]
    fixed += ["--max_steps", str(steps + _WARM_UP), "--progressive_size", "0", "--disable_tqdm", "true"]
    fixed += ["--eval_strategy", "no", "--save_strategy", "no", "--load_best_model_at_end", "false"]
    fixed += ["--torch_compile", "false", "--preprocessing_workers", "1", "--early_stopping_patience", "0"]
    kinds = [DataArguments, ModelArguments, RecipeArguments, TrainingArguments]
    data_args, model_args, recipe, args = parse(kinds, argv=[*words, *fixed], description="")
    set_up_console()
    preprocessing = Preprocessing.of(build_processor(build_config(model_args), model_args))
    with PartialState().main_process_first():
        images = prepare_images(data_args, preprocessing)
        splits = split_images(images, data_args)
    model = build_model(build_config(model_args), model_args, images.label_names)
    trainer = build_trainer(model, splits, preprocessing, recipe, args)
    moments = _watch(trainer)
    trainer.train()
    if PartialState().is_main_process:
        (folder / "seconds.json").write_text(json.dumps(np.diff(moments)[_WARM_UP:].tolist()))


def _watch(trainer: object) -> list[float]:
    """The moments at which the trainer's steps begin, filled while it trains."""
    from transformers import TrainerCallback

    moments: list[float] = []

    class Watch(TrainerCallback):
        def on_step_begin(self, *_: object, **__: object) -> None:
            moments.append(time.perf_counter())

    trainer.add_callback(Watch())  # type: ignore[attr-defined]
    return moments


def main() -> None:
    """Read the command line and print the table."""
    if sys.argv[1:2] == ["worker"]:
        worker(Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", default=str(_ROOT / "configs" / "small_cnn.yaml"), help="a recipe")
    parser.add_argument("--steps", type=int, default=_STEPS, help=f"measured steps of each launch (default: {_STEPS})")
    options, words = parser.parse_known_args()
    print(measured([options.config, *words], options.steps))


if __name__ == "__main__":
    main()
