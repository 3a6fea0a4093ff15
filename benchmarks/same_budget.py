"""As many images by Hugging Face's example recipe as by train.py, judged on the same held-out patients.

    python -m benchmarks.same_budget configs/efficientnet.yaml --data_dir FOLDER [--images 6400] [--seeds 0 1 2]
        [any option of train.py, such as --image_size 128 --pretrained false]

The example is transformers' `run_image_classification.py` with the settings that its README gives: random resized
crops, flips, AdamW at 2e-5 falling to zero, batches of 8. Its recipe is built here from the same parts, on the same
network and first weights, as the script itself reads other folders. A second row gives it the learning rate of our
recipe. All are judged on the validation split after their last step; nothing is chosen on it, and no patient or
near-duplicate of it is in training. The test split is not used. Prints Markdown: the mean over the seeds, their range.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.time_to_accuracy import write_split
from brain_mri.labels import is_healthy

_ROOT = Path(__file__).resolve().parents[1]
_README_RATE, _BATCH = 2e-5, 8


def parsed(words: Sequence[str]) -> tuple[Any, ...]:
    """The options of train.py: data, model, recipe, training."""
    from transformers import TrainingArguments

    from brain_mri.arguments import DataArguments, ModelArguments, RecipeArguments
    from brain_mri.utils.argument_parser import parse

    return parse([DataArguments, ModelArguments, RecipeArguments, TrainingArguments], argv=words, description="")


def example(words: Sequence[str], data: Path, images: int, rate: float, seed: int, folder: Path) -> list[int]:
    """Train with the example's recipe; the predicted index of each validation image, in the order of ImageFolder."""
    from torchvision import datasets, transforms
    from transformers import PrinterCallback, Trainer, TrainingArguments, set_seed

    from brain_mri.data.transforms import Preprocessing
    from brain_mri.models.build import build_config, build_model, build_processor

    set_seed(seed)
    model_args = parsed([*words, "--data_dir", str(data), "--output_dir", str(folder)])[1]
    model_args = replace(model_args, model_args=None, drop_rate=None, drop_path_rate=None, freeze_until=None)
    preprocessing = Preprocessing.of(build_processor(build_config(model_args), model_args))
    size = preprocessing.size
    last = [transforms.ToTensor(), transforms.Normalize(preprocessing.mean, preprocessing.std)]
    change = [transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip(), *last]
    plain = [transforms.Resize(size), transforms.CenterCrop(size), *last]
    train = datasets.ImageFolder(str(data / "train"), transforms.Compose(change))
    held = datasets.ImageFolder(str(data / "validation"), transforms.Compose(plain))
    arguments = TrainingArguments(
        output_dir=str(folder / "example"),
        max_steps=images // _BATCH,
        per_device_train_batch_size=_BATCH,
        learning_rate=rate,
        seed=seed,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    model = build_model(build_config(model_args), model_args, tuple(train.classes))
    trainer = Trainer(model, arguments, data_collator=_collate, train_dataset=train)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return [int(i) for i in np.argmax(trainer.predict(held).predictions, axis=1)]


def _collate(rows: Sequence[tuple[object, int]]) -> dict[str, object]:
    import torch

    return {"pixel_values": torch.stack([row[0] for row in rows]), "labels": torch.tensor([row[1] for row in rows])}


def ours(words: Sequence[str], data: Path, images: int, seed: int, folder: Path) -> list[int]:
    """Train with train.py; the predicted index of each validation image, in the order of ImageFolder."""
    from torchvision import datasets

    from brain_mri.arguments import EvaluationArguments
    from brain_mri.data.prepare import prepare_images, split_images
    from brain_mri.evaluation.predict import load_model, predict

    words = [*words, "--data_dir", str(data), "--output_dir", str(folder / "ours")]
    data_args, _, _, training_args = parsed(words)
    words += ["--max_steps", str(images // training_args.per_device_train_batch_size), "--seed", str(seed)]
    words += ["--eval_strategy", "no", "--save_strategy", "no", "--load_best_model_at_end", "false"]
    words += ["--early_stopping_patience", "0", "--export", "false", "--disable_tqdm", "true"]
    done = subprocess.run([sys.executable, "train.py", *words], cwd=_ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"train.py {' '.join(words)} failed:\n{done.stderr[-2000:]}")
    model, preprocessing = load_model(EvaluationArguments(str(folder / "ours")))
    rows = split_images(prepare_images(data_args, preprocessing), data_args)["validation"]
    indices = predict(model, rows, preprocessing).logits.argmax(axis=1)
    names = {name: model.config.id2label[int(i)] for name, i in zip(rows["file_name"][:], indices, strict=True)}
    held = datasets.ImageFolder(str(data / "validation"))
    return [held.class_to_idx[names[Path(path).relative_to(data).as_posix()]] for path, _ in held.samples]


def judge(predicted: Sequence[int], data: Path) -> dict[str, float]:
    """Accuracy, macro-F1 and the share of tumours called healthy (NaN in a set without healthy slices)."""
    from sklearn.metrics import accuracy_score, f1_score
    from torchvision import datasets

    held = datasets.ImageFolder(str(data / "validation"))
    truth, found = np.array(held.targets), np.array(predicted)
    healthy = next((i for i, name in enumerate(held.classes) if is_healthy(name)), -1)
    missed = np.mean(found[truth != healthy] == healthy) if healthy >= 0 else np.nan
    scores = {"accuracy": accuracy_score(truth, found), "macro-F1": f1_score(truth, found, average="macro")}
    return {**scores, "tumours called healthy": float(missed)}


def _row(name: str, found: Sequence[dict[str, float]]) -> str:
    cells = []
    for figure in found[0]:
        values = [one[figure] for one in found]
        mean, low, high = statistics.mean(values), min(values), max(values)
        cells.append("-" if np.isnan(mean) else f"{mean:.1%} ({low:.1%} to {high:.1%})")
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    """Train all with each seed, one after the other, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="a recipe of train.py")
    parser.add_argument("--data_dir", required=True, help="the folder of images")
    parser.add_argument("--images", type=int, default=6400, help="that each training sees (default: 6400)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options, words = parser.parse_known_args()
    words = [options.config, *words]
    rate = parsed([*words, "--data_dir", "x", "--output_dir", "x"])[3].learning_rate
    found: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as place:
        os.environ["HF_DATASETS_CACHE"] = f"{place}/cache"
        data = write_split([*words, "--data_dir", options.data_dir], Path(place))
        for seed in options.seeds:
            ways = {f"the example, {r:g}": (example, (r,)) for r in (_README_RATE, rate)} | {"train.py": (ours, ())}
            for name, (way, extra) in ways.items():
                folder = Path(place) / f"{seed}-{len(found)}-{name}"
                scores = judge(way(words, data, options.images, *extra, seed, folder), data)
                found.setdefault(name, []).append(scores)
                print(f"seed {seed}, {name}: {scores}", file=sys.stderr, flush=True)
    print("\n| recipe | accuracy | macro-F1 | tumours called healthy |\n|---|---:|---:|---:|")
    print("\n".join(_row(name, scores) for name, scores in found.items()))


if __name__ == "__main__":
    main()
