"""A coverage-guided search for a file that gets past the reading rooms, by atheris (libFuzzer).

    pip install -e ".[fuzz]"
    python -m benchmarks.stress.fuzz_guided CORPUS [-max_total_time=600] [-jobs=2] [any option of libFuzzer]

CORPUS is a folder, made and filled with the whole files of `broken_files.py` where it is empty; inputs that reach code
that no other did are added to it, so that the same command goes on where an earlier one ended. Watched are the branches
of the reading rooms and of the Python of Pillow, pydicom and nibabel (not of their C libraries), in this process: from
behind the wall nothing is seen of them, and `fuzz_images.py --wall` tries that. An input that ends in anything but
slices or an `ImageError` of one line is a finding: it is written as `crash-*` (`timeout-*`, `oom-*`), the search ends
with an error, and the file goes to `tests/regressions/` together with its remedy.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from pathlib import Path

import atheris

_WATCHED = ["brain_mri.io", "PIL", "pydicom", "nibabel"]
_LIMITS = {"-timeout": 20, "-rss_limit_mb": 3072, "-max_len": 65536}  # seconds, MiB, bytes of an input

with atheris.instrument_imports(include=_WATCHED):
    import brain_mri.io.volumes
    import brain_mri.io.wall_worker  # noqa: F401 (imports whatever reads a format)

from benchmarks.stress import broken_files, fuzz_images  # noqa: E402


def fill(corpus: Path) -> None:
    """Write the whole files there, unless something is there already."""
    corpus.mkdir(parents=True, exist_ok=True)
    if any(corpus.iterdir()):
        return
    for kind, files in broken_files.seeds().items():
        for number, content in enumerate(files):
            if len(content) <= _LIMITS["-max_len"]:
                (corpus / f"{kind}-{number}").write_bytes(content)


def read(content: bytes) -> None:
    """Read one input as a page reads an upload.

    Raises:
        RuntimeError: the outcome is neither slices nor a refusal.
    """
    found = fuzz_images.outcome(content)
    if found not in (fuzz_images.READ, fuzz_images.REFUSED):
        raise RuntimeError(found)


def main() -> None:
    """Hand the command line to libFuzzer."""
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    warnings.simplefilter("ignore")
    logging.disable()
    fill(Path(sys.argv[1]))
    given = {word.split("=")[0] for word in sys.argv}
    limits = [f"{name}={value}" for name, value in _LIMITS.items() if name not in given]
    atheris.Setup([*sys.argv, *limits], read)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    atheris.Fuzz()


if __name__ == "__main__":
    main()
