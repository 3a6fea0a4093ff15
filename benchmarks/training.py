"""How near train.py's own loop comes to the ceiling, how long it takes to its first step, how memory grows.

    python -m benchmarks.training throughput configs/resnet50.yaml [--steps 12] [any option of train.py]
    python -m benchmarks.training startup configs/efficientnet.yaml --data_dir FOLDER [--repeats 3]
    python -m benchmarks.training memory configs/quickstart.yaml [--images 7000 70000]

throughput: the loop of train.py; the ceiling, which is the same model, number format, compiler and batch on tensors
that lie in memory already (forward, backward, optimizer step and nothing else), before and after it; and the recipe
that everyone copies (float32, NCHW, eager, files decoded and augmented in the loop). All on synthetic phantoms, random
weights, one process, medians of steps; the last with glibc's allocator as it comes, the others as train.py sets it.
startup: seconds from a process's start to its first step, with nothing cached and once more. memory: the peak of
train.py on sets of different size, one step each. Prints Markdown.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

_ROOT = Path(__file__).resolve().parents[1]
_WARM_UP = 3  # steps: compilation, buffers
_STEPS = 12
_PER_CLASS = 64  # phantoms


@dataclass(frozen=True)
class Speed:
    """Seconds of each step, and how many images a step holds."""

    seconds: list[float]
    batch: int

    def images_per_second(self) -> float:
        """Of the median step."""
        return self.batch / float(np.median(self.seconds))

    def spread(self) -> str:
        """The middle half of the steps, as images per second."""
        slow, fast = (self.batch / q for q in np.quantile(self.seconds, (0.75, 0.25)))
        return f"{slow:.1f} to {fast:.1f}"


def throughput(words: Sequence[str], steps: int) -> str:
    """The table of the three."""
    from transformers import TrainingArguments

    from brain_mri.arguments import DataArguments, ModelArguments, RecipeArguments
    from brain_mri.data.prepare import prepare_images, split_images
    from brain_mri.data.transforms import Preprocessing
    from brain_mri.models.build import build_config, build_processor
    from brain_mri.phantom.dataset import write_phantoms
    from brain_mri.utils.argument_parser import parse
    from brain_mri.utils.hardware import keep_freed_memory

    with tempfile.TemporaryDirectory() as folder:
        os.environ["HF_DATASETS_CACHE"] = f"{folder}/cache"
        data = write_phantoms(Path(folder) / "phantoms", train_per_class=_PER_CLASS, test_per_class=2, size=256)
        fixed = ["--data_dir", str(data), "--output_dir", f"{folder}/run", "--pretrained", "false"]
        fixed += ["--max_steps", str(steps + _WARM_UP), "--progressive_size", "0", "--disable_tqdm", "true"]
        fixed += ["--eval_strategy", "no", "--save_strategy", "no", "--load_best_model_at_end", "false"]
        kinds = [DataArguments, ModelArguments, RecipeArguments, TrainingArguments]
        data_args, model_args, recipe, args = parse(kinds, argv=[*words, *fixed], description="")
        preprocessing = Preprocessing.of(build_processor(build_config(model_args), model_args))
        images = prepare_images(data_args, preprocessing)
        splits = split_images(images, data_args)
        make = _Maker(model_args, replace(recipe, early_stopping_patience=0), args, preprocessing, images.label_names)
        found = {"the plain recipe": make.plain(data / "train", steps)}  # first: with the allocator as everyone has it
        keep_freed_memory()
        found |= {"ceiling": make.ceiling(steps), "train.py": make.loop(splits)}
        found["ceiling, again"] = make.ceiling(steps)
    return _throughput_table(found)


class _Maker:
    """Builds and times each way of training one model."""

    def __init__(self, *parts: object) -> None:
        self.model_args, self.recipe, self.args, self.preprocessing, self.label_names = parts

    def _model(self) -> object:
        import torch

        from brain_mri.models.build import build_config, build_model

        torch._dynamo.reset()  # a graph compiled for a network without hooks would serve the next, which has one
        return build_model(build_config(self.model_args), self.model_args, self.label_names).train()

    def loop(self, splits: object) -> Speed:
        """train.py's own: its trainer on its prepared pixels."""
        from transformers import TrainerCallback

        from brain_mri.training.build import build_trainer

        moments: list[float] = []

        class Watch(TrainerCallback):
            def on_step_begin(self, *_: object, **__: object) -> None:
                moments.append(time.perf_counter())

        trainer = build_trainer(self._model(), splits, self.preprocessing, self.recipe, self.args)
        trainer.add_callback(Watch())
        trainer.train()
        return Speed(np.diff(moments)[_WARM_UP:].tolist(), self.args.per_device_train_batch_size)

    def ceiling(self, steps: int) -> Speed:
        """Forward, backward and step on one batch that lies in memory, on the device, normalised."""
        import torch

        from brain_mri.models.layers import hold_frozen_statistics
        from brain_mri.training.optim import parameter_groups
        from brain_mri.utils.hardware import autocast_dtype

        device = self.args.device
        layout = torch.channels_last if self.recipe.channels_last else torch.contiguous_format
        model = self._model().to(device, memory_format=layout)
        dtype = autocast_dtype(self.recipe.precision, device, model)
        groups = parameter_groups(model, self.recipe, self.args.learning_rate, self.args.weight_decay)
        optimizer = torch.optim.AdamW(groups, fused=True)
        network = torch.compile(model) if self.args.torch_compile else model
        pixels = torch.randn(self.args.per_device_train_batch_size, 3, *self._size(), device=device)
        pixels = pixels.contiguous(memory_format=layout)
        labels = torch.arange(len(pixels), device=device) % len(self.label_names)

        def step() -> None:
            hold_frozen_statistics(model)
            with torch.autocast(device.type, dtype, enabled=dtype is not None):
                logits = network(pixel_values=pixels).logits.float()
            torch.nn.functional.cross_entropy(logits, labels).backward()
            optimizer.step()
            optimizer.zero_grad()
            if device.type == "cuda":
                torch.cuda.synchronize()

        return _timed(step, steps, len(pixels))

    def plain(self, folder: Path, steps: int) -> Speed:
        """What tutorials do: torchvision's ImageFolder and transforms, one process, float32, NCHW, eager Adam."""
        import torch
        from torchvision import datasets, transforms

        size = self._size()
        change = [transforms.Resize(size), transforms.RandomHorizontalFlip(), transforms.RandomRotation(15)]
        change += [transforms.ColorJitter(0.2, 0.2), transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)]
        batch = self.args.per_device_train_batch_size
        pictures = datasets.ImageFolder(str(folder), transforms.Compose(change))
        loader = torch.utils.data.DataLoader(pictures, batch_size=batch, shuffle=True, drop_last=True)
        model = self._model().to(self.args.device)
        optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-4)
        waiting = iter(())

        def step() -> None:
            nonlocal waiting
            found = next(waiting, None)
            if found is None:
                waiting = iter(loader)
                found = next(waiting)
            pixels, labels = (part.to(self.args.device) for part in found)
            torch.nn.functional.cross_entropy(model(pixel_values=pixels).logits, labels).backward()
            optimizer.step()
            optimizer.zero_grad()

        return _timed(step, steps, batch)

    def _size(self) -> tuple[int, int]:
        size = self.preprocessing.size
        return (size, size) if isinstance(size, int) else tuple(size)


def _timed(step: Callable[[], None], steps: int, batch: int) -> Speed:
    moments = []
    for _ in range(_WARM_UP + steps + 1):
        moments.append(time.perf_counter())
        step()
    return Speed(np.diff(moments)[_WARM_UP:].tolist(), batch)


def _throughput_table(found: dict[str, Speed]) -> str:
    tops = [found[name].images_per_second() for name in ("ceiling", "ceiling, again")]
    plain = found["the plain recipe"].images_per_second()
    lines = [
        "| loop | images/s (middle half of steps) | of the ceiling | of the plain recipe |",
        "|---|---:|---:|---:|",
    ]
    for name, speed in found.items():
        rate = speed.images_per_second()
        lines.append(f"| {name} | {rate:.1f} ({speed.spread()}) | {rate / np.mean(tops):.0%} | {rate / plain:.1f}x |")
    return "\n".join(lines)


def startup(words: Sequence[str], repeats: int) -> str:
    """Seconds from a new process to its first training step, with an empty cache and with what that one left."""
    seconds: dict[str, list[float]] = {"cold": [], "cached": []}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            for name, taken in seconds.items():
                taken.append(_first_step(words, Path(folder) / name, Path(folder) / "cache"))
    rows = [
        f"| {name} | {statistics.median(taken):.1f} s ({min(taken):.1f} to {max(taken):.1f}) |"
        for name, taken in seconds.items()
    ]
    return "\n".join([f"| start | command to first step (range of {repeats}) |", "|---|---:|", *rows])


def _first_step(words: Sequence[str], out: Path, cache: Path) -> float:
    """Until train.py logs its first step, which then is stopped."""
    command = [sys.executable, "-u", "train.py", *words, "--output_dir", str(out), "--logging_steps", "1"]
    command += ["--disable_tqdm", "true", "--torch_compile", "false"]
    environment = os.environ | {"HF_DATASETS_CACHE": str(cache), "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    started = time.perf_counter()
    with subprocess.Popen(command, cwd=_ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if "'loss'" in line:
                elapsed = time.perf_counter() - started
                process.kill()
                return elapsed
    raise SystemExit("train.py ended before its first step:\n" + "".join(said))


def memory(words: Sequence[str], sizes: Sequence[int]) -> str:
    """Peak memory of train.py on folders of different size (Linux); the pictures are random blobs."""
    rows = []
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            data = _many(Path(folder) / "many", size)
            command = [sys.executable, "train.py", *words, "--data_dir", str(data), "--output_dir", f"{folder}/run"]
            command += ["--max_steps", "2", "--disable_tqdm", "true", "--eval_strategy", "no", "--save_strategy", "no"]
            command += ["--load_best_model_at_end", "false"]
            environment = os.environ | {
                "HF_DATASETS_CACHE": f"{folder}/cache",
                "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
            }
            anonymous, mapped = _peak(command, environment)
            rows.append(f"| {size:,} | {anonymous:.0f} MiB | {mapped:.0f} MiB |")
    return "\n".join(["| images | memory of train.py's own | mapped files |", "|---:|---:|---:|", *rows])


def _peak(command: Sequence[str], environment: dict[str, str]) -> tuple[float, float]:
    """The most that a process held, in MiB: of its own, and of files mapped into it, which the system may drop."""
    own = mapped = 0
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, cwd=_ROOT, env=environment, stdout=said, stderr=said)
        while process.poll() is None:
            found = dict(re.findall(r"(Rss\w+):\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text()))
            own, mapped = max(own, int(found.get("RssAnon", 0))), max(mapped, int(found.get("RssFile", 0)))
            time.sleep(0.05)
        if process.returncode:
            said.seek(0)
            raise SystemExit(f"train.py failed:\n{said.read().decode()[-2000:]}")
    return own / 1024, mapped / 1024


def _many(folder: Path, count: int) -> Path:
    """A folder of `count` small pictures of random blobs: no two alike, as the audit would find them."""
    from PIL import Image

    from brain_mri.labels import LABELS

    rng = np.random.default_rng(0)
    for number in range(count):
        target = folder / ("test" if number % 5 == 0 else "train") / LABELS[number % len(LABELS)] / f"{number}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        blobs = Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8))  # of noise, all spectra are alike
        blobs.resize((64, 64), Image.Resampling.BICUBIC).save(target, compress_level=0)
    return folder


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    commands.add_parser("throughput").add_argument("--steps", type=int, default=_STEPS)
    commands.add_parser("startup").add_argument("--repeats", type=int, default=3)
    commands.add_parser("memory").add_argument("--images", type=int, nargs="+", default=[7000, 70000])
    options, words = parser.parse_known_args()
    if options.what == "throughput":
        print(throughput(words, options.steps))
    elif options.what == "startup":
        print(startup(words, options.repeats))
    else:
        print(memory(words, options.images))


if __name__ == "__main__":
    main()
