"""Copying the files of a model folder that may be published. No torch.

    python -m brain_mri.hub.release outputs/efficientnet release [--card model_card.md]

Left out are checkpoints, pictures that show the data, and the float32 ONNX file if there is an int8 file, which is the
one that is served. Absolute paths in `run.json` are cut to their last part.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from brain_mri.errors import ConfigError, run_command
from brain_mri.model_folder import AUDIT, CARD, CONFIG, FLOAT32_FILE, INT8_FILE, RUN, published_files, without_paths
from brain_mri.reporting.model_card import write_card
from brain_mri.utils.files import read_json, write_json, written_whole


def copy_published(source: Path, target: Path, data_license: str | None = None) -> list[Path]:
    """Copy the published files and write the card from them; a model folder at `target` is replaced.

    Args:
        source: a model folder.
        target: the folder to write.
        data_license: licence and authors of the training data, for the card; default: those in `run.json`.

    Raises:
        ConfigError: `source` is no finished model folder, its audit names files, or `target` exists and holds no model.
    """
    if not (source / RUN).is_file():
        raise ConfigError(f"{source} is no model folder that train.py finished: it has no {RUN}.")
    if target.exists() and not (target / CONFIG).is_file():
        raise ConfigError(f"{target} is there and holds no model: name a new folder, or remove it first.")
    if "worst_pairs" in read_json(source / AUDIT):
        raise ConfigError(
            f"{source}/{AUDIT} names files of the data, as an earlier version wrote it: train again, or remove it; the "
            "card then says that there was no audit."
        )
    with written_whole(target, folder=True) as partial:
        for path in published_files(source):
            if path == source / FLOAT32_FILE and (source / INT8_FILE).is_file():
                continue
            copy = partial / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        record = read_json(partial / RUN)
        if data_license:
            record["data"]["data_license"] = data_license
        write_json(without_paths(record), partial / RUN)
        write_card(partial)
        if target.exists():
            shutil.rmtree(target)
    return sorted(path for path in target.rglob("*") if path.is_file())


def copy_card(folder: Path, target: Path) -> None:
    """Write a published folder's card to `target`, its links to pictures and files as seen from there."""
    prefix = Path(os.path.relpath(folder, target.parent)).as_posix()
    text = (folder / CARD).read_text(encoding="utf-8").split("---\n", 2)[2].lstrip()
    target.write_text(re.sub(r"\]\((?!https?:|#)", f"]({prefix}/", text), encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> None:
    """Copy a model folder's published files."""
    parser = argparse.ArgumentParser(prog="python -m brain_mri.hub.release", description=__doc__.splitlines()[0])
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
