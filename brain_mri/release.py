"""What of a model folder may leave the machine, and a copy of just that. No torch.

    python -m brain_mri.release outputs/efficientnet release [--card model_card.md]

Left out are checkpoints, pictures that show the data, and the float32 ONNX file beside one in int8, which is what is
served; absolute paths in `run.json` are cut to their last part.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from brain_mri.card import write_card
from brain_mri.errors import ConfigError, run_command
from brain_mri.onnx_model import FLOAT32_FILE, INT8_FILE

_PUBLISHED = (
    "config.json",
    "preprocessor_config.json",
    "model.safetensors",
    "run.json",
    "audit.json",
    "calibration.json",
    "evidence.json",
    "export.json",
    "guard.json",
    "guard.safetensors",
    "training_curves.png",
    "onnx/*.onnx",
    "evaluation/*.json",
    "evaluation/confusion_matrix.png",
    "evaluation/roc.png",
    "evaluation/reliability.png",
    "evaluation/referral.png",
)


def published_files(folder: Path) -> list[Path]:
    """The files of a model folder that are published, sorted; none shows the data."""
    return sorted(path for pattern in _PUBLISHED for path in folder.glob(pattern) if path.is_file())


def copy_published(source: Path, target: Path, data_license: str | None = None) -> list[Path]:
    """Copy the published files, and write the card anew from them; what stood at `target` is replaced as a whole.

    Args:
        source: the folder that train.py left and evaluate_model.py added to.
        target: the folder to write.
        data_license: licence and authors of the training data, for the card; default: what `run.json` says.

    Raises:
        ConfigError: `source` is no finished model folder, or `target` holds something else than a model.
    """
    if not (source / "run.json").is_file():
        raise ConfigError(f"{source} is no model folder that train.py finished: it has no run.json.")
    if target.exists() and not (target / "config.json").is_file():
        raise ConfigError(f"{target} is there and holds no model: name a new folder, or remove it first.")
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    for path in published_files(source):
        if path == source / FLOAT32_FILE and (source / INT8_FILE).is_file():
            continue
        copy = partial / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    record = json.loads((partial / "run.json").read_text(encoding="utf-8"))
    if data_license:
        record["data"]["data_license"] = data_license
    (partial / "run.json").write_text(json.dumps(without_paths(record), indent=2) + "\n", encoding="utf-8")
    write_card(partial)
    if target.exists():
        shutil.rmtree(target)
    partial.rename(target)
    return sorted(path for path in target.rglob("*") if path.is_file())


def copy_card(folder: Path, target: Path) -> None:
    """Write a published folder's card to `target`, its links to pictures and files as seen from there."""
    prefix = Path(os.path.relpath(folder, target.parent)).as_posix()
    text = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)[2].lstrip()
    target.write_text(re.sub(r"\]\((?!https?:|#)", f"]({prefix}/", text), encoding="utf-8")


def without_paths(value: Any) -> Any:
    """A record in which every absolute path is only a name."""
    if isinstance(value, dict):
        return {key: without_paths(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_paths(inner) for inner in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def main(argv: Sequence[str] | None = None) -> None:
    """Copy a model folder's published files."""
    parser = argparse.ArgumentParser(prog="python -m brain_mri.release", description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="the folder that train.py left and evaluate_model.py added to")
    parser.add_argument("target", type=Path, help="the folder to write, such as release")
    parser.add_argument("--data_license", help="licence and authors of the training data, for the card")
    parser.add_argument("--card", type=Path, help="also write the card here, with links that work from there")
    options = parser.parse_args(argv)
    files = copy_published(options.model, options.target, options.data_license)
    if options.card:
        copy_card(options.target, options.card)
    size = sum(path.stat().st_size for path in files) / 1e6
    print(f"{len(files)} files, {size:.1f} MB in {options.target}")


if __name__ == "__main__":
    run_command(main)
