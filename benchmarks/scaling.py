"""How training scales with processes: measured with one and two on this CPU, computed for 8 GPUs and for two machines.

    python -m benchmarks.scaling measured [configs/small_cnn.yaml] [--steps 20] [any option of train.py]
    python -m benchmarks.scaling computed [--step_ms 10 30 100] [--intra_gbps 3600] [--inter_gbps 100]

measured: the loop of train.py on synthetic phantoms, random weights, median of the steps after a warm-up; each line is
a launch of its own, by torchrun. Wants a machine that does nothing else. computed: a ring all-reduce of the gradients
after each step, see `allreduce_seconds`; nothing is run. Prints Markdown.
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
_BYTES = 4  # of a gradient, float32
_RECIPES = ("small_cnn", "efficientnet", "resnet50", "vit", "vgg16")
_PLACES = ((8, 1), (16, 2))  # GPUs of all machines together, machines


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


def allreduce_seconds(parameters: int, gpus: int, gigabits: float, latency: float) -> float:
    """Seconds that a ring needs to sum the gradients of `gpus` processes (Patarasuk and Yuan 2009).

    Each of the 2 (n - 1) rounds sends the n-th part of the gradients to the neighbour.

    Args:
        parameters: weights that are trained; 4 bytes of gradient each.
        gpus: n, the processes in the ring.
        gigabits: per second and direction, of the slowest link of the ring.
        latency: seconds of a round, whatever it carries.
    """
    rounds = 2 * (gpus - 1)
    return rounds * (parameters * _BYTES / gpus * 8 / (gigabits * 1e9) + latency)


def efficiency(step: float, communication: float, overlap: float) -> float:
    """The share of n times one GPU's speed that n reach.

    Args:
        step: seconds that one GPU computes per step, forward, backward and optimizer.
        communication: seconds of the all-reduce by itself.
        overlap: share of the communication that hides behind the backward pass, 0 to 1.
    """
    return step / (step + (1 - overlap) * communication)


def computed(options: argparse.Namespace) -> str:
    """The table for `_PLACES`."""
    gigabits = {1: options.intra_gbps, 2: min(options.intra_gbps, options.inter_gbps)}
    head = [f"t = {t:g} ms" for t in options.step_ms]
    lines = [
        f"| recipe | weights (millions) | GPUs | machines | all-reduce | {' | '.join(head)} |",
        f"|---|---:|---:|---:|---:|{'---:|' * len(head)}",
    ]
    for recipe in _RECIPES:
        parameters = _parameters(recipe)
        for gpus, machines in _PLACES:
            spent = allreduce_seconds(parameters, gpus, gigabits[machines], options.latency_us * 1e-6)
            shares = [efficiency(t / 1000, spent, options.overlap) for t in options.step_ms]
            cells = [f"{gpus * share:.1f} x ({share:.0%})" for share in shares]
            lines.append(
                f"| {recipe} | {parameters / 1e6:.1f} | {gpus} | {machines} | {spent * 1000:.2f} ms | "
                + f"{' | '.join(cells)} |"
            )
    lines.append(
        f"\n{options.intra_gbps:g} Gbit/s within a machine, {options.inter_gbps:g} Gbit/s between two, "
        f"{options.latency_us:g} us a round, {options.overlap:.0%} of the all-reduce hidden behind the backward pass."
    )
    return "\n".join(lines)


def _parameters(recipe: str) -> int:
    import torch
    from transformers import AutoModelForImageClassification, TrainingArguments

    from brain_mri.arguments import DataArguments, ModelArguments, RecipeArguments
    from brain_mri.labels import LABELS
    from brain_mri.models.build import build_config
    from brain_mri.utils.argument_parser import parse

    kinds = [DataArguments, ModelArguments, RecipeArguments, TrainingArguments]
    words = [str(_ROOT / "configs" / f"{recipe}.yaml"), "--pretrained", "false", "--torch_compile", "false"]
    _, model_args, _, _ = parse(kinds, argv=words, description="")
    config = build_config(model_args)
    config.num_labels = len(LABELS)
    with torch.device("meta"):  # no weights are drawn
        return int(AutoModelForImageClassification.from_config(config).num_parameters())


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
    kinds = parser.add_subparsers(dest="kind", required=True)
    runs = kinds.add_parser("measured", help="train with one and two processes on this CPU")
    runs.add_argument("config", nargs="?", default=str(_ROOT / "configs" / "small_cnn.yaml"), help="a recipe")
    runs.add_argument("--steps", type=int, default=_STEPS, help=f"measured steps of each launch (default: {_STEPS})")
    sums = kinds.add_parser("computed", help="from the size of the gradients and the speed of the links")
    sums.add_argument("--step_ms", type=float, nargs="+", default=[10, 30, 100], help="t, one GPU's step, in ms")
    sums.add_argument(
        "--intra_gbps", type=float, default=3600, help="Gbit/s between GPUs of a machine (3600: NVLink 4)"
    )
    sums.add_argument("--inter_gbps", type=float, default=100, help="Gbit/s between machines (default: 100)")
    sums.add_argument("--latency_us", type=float, default=20, help="of a round of the ring, in us (default: 20)")
    sums.add_argument("--overlap", type=float, default=0.0, help="share hidden behind the backward pass, 0 to 1")
    options, words = parser.parse_known_args()
    if options.kind == "computed":
        print(computed(options))
    else:
        print(measured([options.config, *words], options.steps))


if __name__ == "__main__":
    main()
