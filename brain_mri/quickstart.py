"""All of it once, offline, in two minutes on a laptop: synthetic pictures, a small model, its figures, one answer."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from brain_mri.cli import main as brain_mri
from brain_mri.errors import ConfigError, run_command


def main(argv: Sequence[str] | None = None) -> None:
    """Run the four commands, printing each first."""
    parser = argparse.ArgumentParser(prog="brain-mri quickstart", description=__doc__)
    parser.add_argument("folder", nargs="?", default="outputs/quickstart", help="a new folder (default: %(default)s)")
    folder = Path(parser.parse_args(argv).folder)
    if folder.exists():
        raise ConfigError(f"{folder} is there already: remove it, or name another folder.")
    for words in _commands(folder / "phantoms", folder / "model"):
        print(f"\n$ brain-mri {' '.join(words)}", flush=True)
        brain_mri(words)


def _commands(pictures: Path, model: Path) -> Iterator[list[str]]:
    """The commands, each asked for once those before it have run."""
    data = ["--data_dir", str(pictures)]
    yield ["phantom", str(pictures)]
    yield ["train", "quickstart", *data, "--output_dir", str(model)]
    yield ["evaluate", str(model), *data]
    yield ["predict", str(min((pictures / "test" / "glioma").iterdir())), "--model", str(model)]


if __name__ == "__main__":
    run_command(main)
