"""How long a trainer waits until train.py is as good as the recipe that everyone copies.

    python -m benchmarks.time_to_accuracy configs/efficientnet_fast.yaml --data_dir FOLDER [--seeds 0 1 2] [--epochs 4]
        [--processes 2] [any option of train.py, such as --num_train_epochs 3 --image_size 128]

The plain recipe: the same network and starting weights, torchvision's ImageFolder and transforms, float32, NCHW, eager
Adam at 1e-4, batches of 32, one process with all threads, `--epochs` epochs. Its validation accuracy after the last one
is the target. train.py runs once per seed on the same images with `--processes` processes, each with the batch of its
own recipe, evaluated after each epoch on the same validation images: patients and near-duplicates of training are not
among them. The test split is not used. Seconds count from the start of the command to the moment the accuracy
is known: imports, reading, compilation and evaluation included; nothing is cached from before. Prints Markdown: each
seed, and the means over the seeds epoch by epoch, as one seed's last accuracy is partly luck.
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
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
_ACCURACY = re.compile(r"'eval_accuracy': '?([0-9.]+)")
_BATCH = 32


@dataclass(frozen=True)
class Evaluation:
    """What is known `seconds` after the command was given."""

    seconds: float
    accuracy: float


def write_split(words: Sequence[str], folder: Path) -> Path:
    """The three splits as train.py makes them, written out as links, so that both recipes see the same."""
    from transformers import TrainingArguments

    from brain_mri.arguments import DataArguments, ModelArguments, RecipeArguments
    from brain_mri.data.image_folder import scan_folder
    from brain_mri.data.linked_folder import lay_out
    from brain_mri.data.prepare import prepare_images, split_images
    from brain_mri.data.transforms import Preprocessing
    from brain_mri.models.build import build_config, build_processor
    from brain_mri.utils.argument_parser import parse

    kinds = [DataArguments, ModelArguments, RecipeArguments, TrainingArguments]
    data_args, model_args, _, _ = parse(kinds, argv=[*words, "--output_dir", str(folder / "none")], description="")
    images = prepare_images(data_args, Preprocessing.of(build_processor(build_config(model_args), model_args)))
    splits = split_images(images, data_args)
    layout = scan_folder(str(data_args.data_dir))
    split_of = {name: split for split, rows in splits.items() for name in rows["file_name"]}
    names = {}
    for number, image in enumerate(layout.images):
        if image.file_name not in split_of:  # left out for its finding
            continue
        names[image.file_name] = f"{split_of[image.file_name]}/{image.label}/{number}{image.path.suffix}"
    return lay_out(layout, names, folder / "data")


def plain(words: Sequence[str], data: Path, epochs: int, seed: int) -> None:
    """One process of the plain recipe: prints the validation accuracy after each epoch, as the trainer does."""
    import torch
    from torchvision import datasets, transforms
    from transformers import TrainingArguments

    from brain_mri.arguments import DataArguments, ModelArguments, RecipeArguments
    from brain_mri.data.transforms import Preprocessing
    from brain_mri.models.build import build_config, build_model, build_processor
    from brain_mri.utils.argument_parser import parse

    kinds = [DataArguments, ModelArguments, RecipeArguments, TrainingArguments]
    _, model_args, _, _ = parse(kinds, argv=[*words, "--output_dir", str(data.parent / "plain")], description="")
    model_args = replace(model_args, model_args=None, drop_rate=None, drop_path_rate=None, freeze_until=None)
    size = Preprocessing.of(build_processor(build_config(model_args), model_args)).size
    torch.manual_seed(seed)
    square = (size, size) if isinstance(size, int) else tuple(size)
    last = [transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)]
    change = [transforms.RandomHorizontalFlip(), transforms.RandomRotation(15), transforms.ColorJitter(0.2, 0.2)]
    train = datasets.ImageFolder(str(data / "train"), transforms.Compose([transforms.Resize(square), *change, *last]))
    held = datasets.ImageFolder(str(data / "validation"), transforms.Compose([transforms.Resize(square), *last]))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = build_model(build_config(model_args), model_args, tuple(train.classes)).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    for _ in range(epochs):
        model.train()
        for pixels, labels in torch.utils.data.DataLoader(train, batch_size=_BATCH, shuffle=True):
            logits = model(pixel_values=pixels.to(device)).logits
            torch.nn.functional.cross_entropy(logits, labels.to(device)).backward()
            optimizer.step()
            optimizer.zero_grad()
        model.eval()
        right = 0
        with torch.inference_mode():
            for pixels, labels in torch.utils.data.DataLoader(held, batch_size=2 * _BATCH):
                right += int((model(pixel_values=pixels.to(device)).logits.argmax(1).cpu() == labels).sum())
        print(f"'eval_accuracy': {right / len(held)}", flush=True)


def _watch(command: Sequence[str], environment: dict[str, str]) -> list[Evaluation]:
    """Run it to its end; what it says its validation accuracy is, and when."""
    started, evaluations, lines = time.perf_counter(), [], []
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, cwd=_ROOT, env=environment, **pipes) as process:
        for line in process.stdout:
            lines.append(line)
            if found := _ACCURACY.search(line):
                evaluations.append(Evaluation(time.perf_counter() - started, float(found.group(1))))
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{''.join(lines[-20:])}")
    return evaluations


def one_seed(
    words: Sequence[str], options: argparse.Namespace, seed: int, folder: Path, data: Path
) -> tuple[list[Evaluation], list[Evaluation]]:
    """Both recipes with one seed, one after the other."""
    # nothing that an earlier seed has cached or compiled helps a later one
    cached = {"HF_DATASETS_CACHE": f"{folder}/{seed}/cache", "TORCHINDUCTOR_CACHE_DIR": f"{folder}/{seed}/compiled"}
    plainly = [sys.executable, "-u", __file__, "plain", str(data), str(options.epochs), str(seed), *words]
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(options.processes)]
    ours = [sys.executable, "-u", *(launch if options.processes > 1 else []), "train.py", *words]
    ours += ["--data_dir", str(data), "--output_dir", f"{folder}/{seed}/run", "--seed", str(seed)]
    ours += ["--eval_strategy", "epoch", "--save_strategy", "no", "--load_best_model_at_end", "false"]
    ours += ["--disable_tqdm", "true", "--export", "false"]  # the export comes after the last evaluation
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // options.processes))}
    return _watch(plainly, os.environ | cached), _watch(ours, os.environ | cached | threads)


def _rows(found: dict[int, tuple[list[Evaluation], list[Evaluation]]]) -> list[str]:
    lines = [
        "| seed | plain recipe: last accuracy | after | train.py: as good | accuracy then | its last | times as fast |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    ratios = []
    for seed, (plainly, ours) in found.items():
        target = plainly[-1]
        reached = next((moment for moment in ours if moment.accuracy >= target.accuracy), None)
        cells = ["never", "-", f"{ours[-1].accuracy:.2%}", "-"]
        if reached:
            ratios.append(target.seconds / reached.seconds)
            cells = [f"{reached.seconds:.0f} s", f"{reached.accuracy:.2%}", cells[2], f"{ratios[-1]:.1f} x"]
        lines.append(f"| {seed} | {target.accuracy:.2%} | {target.seconds:.0f} s | {' | '.join(cells)} |")
    if ratios:
        spread = f"{min(ratios):.1f} to {max(ratios):.1f}"
        lines.append(f"\nMedian of {len(ratios)} of {len(found)} seeds: {statistics.median(ratios):.1f} x ({spread}).")
    return lines


def _means(found: dict[int, tuple[list[Evaluation], list[Evaluation]]]) -> list[str]:
    """Epoch by epoch, the mean over the seeds of both recipes."""
    lines = ["| epoch | plain recipe | after | train.py | after |", "|---:|---:|---:|---:|---:|"]
    sides = [list(zip(*courses, strict=True)) for courses in zip(*found.values(), strict=True)]
    for number, epoch in enumerate(zip_longest(*sides, fillvalue=()), 1):
        cells = [_mean_of(moments) for moments in epoch]
        lines.append(f"| {number} | {' | '.join(cells)} |")
    return lines


def _mean_of(moments: Sequence[Evaluation]) -> str:
    if not moments:
        return " | "
    accuracies, seconds = [moment.accuracy for moment in moments], [moment.seconds for moment in moments]
    spread = f"({min(accuracies):.2%} to {max(accuracies):.2%})"
    return f"{statistics.mean(accuracies):.2%} {spread} | {statistics.mean(seconds):.0f} s"


def main() -> None:
    """Run both recipes with each seed, one after the other, and print the table."""
    if sys.argv[1:2] == ["plain"]:
        plain(sys.argv[5:], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="a recipe of train.py")
    parser.add_argument("--data_dir", required=True, help="the folder of images")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=4, help="of the plain recipe (default: 4)")
    parser.add_argument("--processes", type=int, default=1, help="of train.py (default: 1)")
    options, words = parser.parse_known_args()
    words = [options.config, *words]
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        data = write_split([*words, "--data_dir", options.data_dir], Path(folder))
        for seed in options.seeds:
            found[seed] = one_seed(words, options, seed, Path(folder), data)
            for name, evaluations in zip(("plain", "train.py"), found[seed], strict=True):
                course = ", ".join(f"{moment.accuracy:.2%} at {moment.seconds:.0f} s" for moment in evaluations)
                print(f"seed {seed}, {name}: {course}", file=sys.stderr, flush=True)
    print("\n".join([*_rows(found), "", *_means(found)]))


if __name__ == "__main__":
    main()
