"""What a training survives: kills, a full disk, a second run in its folder, a damaged checkpoint. Prints Markdown.

    python -m benchmarks.stress.train_script                           twenty kills and more: ten minutes
    python -m benchmarks.stress.train_script --kills 2 --only kills,twice

Each part runs `train.py` in processes of its own on synthetic phantoms, with a tiny network that is judged and saved
after every step and whose weights are averaged, and compares the published weights, byte for byte, with those of a run
that nothing happened to. The full disk is a small tmpfs, which needs root to be mounted. Ends with 1 if a part failed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from brain_mri.phantom.dataset import write_phantoms
from brain_mri.training.checkpoints import CHECKSUMS, damaged_file, is_complete

ROOT = Path(__file__).resolve().parents[2]
RESUME = "--resume_from_checkpoint"
_PATIENCE = 600  # seconds until a process that should end or write is given up
_DISK = 12  # MiB; a checkpoint of this network takes five
_OPTIONS = {
    "image_size": 32,
    "num_train_epochs": 8,
    "per_device_train_batch_size": 8,
    "ema_decay": 0.9,
    "eval_strategy": "steps",
    "eval_steps": 1,
    "save_strategy": "steps",
    "save_steps": 1,
    "save_total_limit": 3,
    "preprocessing_workers": 1,
}


class StressError(Exception):
    """Something that was to hold did not; the message says what was seen."""


@dataclass
class Bench:
    """Where everything happens, and what an undisturbed run gave.

    Attributes:
        folder: for all that is written.
        kills: how many.
        draw: where the moments come from.
        weights: of the undisturbed run, as a digest.
        seconds: from the undisturbed run's first checkpoint to its end.
        running: processes to be ended whatever happens.
    """

    folder: Path
    kills: int
    draw: random.Random
    weights: str = ""
    seconds: float = 0.0
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, out: Path, *words: str) -> subprocess.Popen[bytes]:
        """Start `train.py`; what it says goes to `log`."""
        options = [word for name, value in _OPTIONS.items() for word in (f"--{name}", str(value))]
        command = [sys.executable, "train.py", "configs/quickstart.yaml", "--data_dir", str(self.folder / "phantoms")]
        quiet = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
        quiet["HF_DATASETS_CACHE"] = str(self.folder / "cache")
        with self.log(out).open("ab") as log:
            command += ["--output_dir", str(out), *options, "--disable_tqdm", "true", *words]
            process = subprocess.Popen(command, cwd=ROOT, env=os.environ | quiet, stdout=log, stderr=log)
        self.running.append(process)
        return process

    def finish(self, out: Path, *words: str) -> str:
        """Run `train.py` to its end; returns all that was said in this folder so far."""
        code = self.start(out, *words).wait(_PATIENCE)
        said = self.log(out).read_text()
        if code != 0:
            raise StressError(f"ended with {code}: {said[-300:]}")
        return said

    def log(self, out: Path) -> Path:
        """What was said of a folder; not in it, nor on its disk."""
        return self.folder / f"{out.name}.log"

    def check(self, out: Path) -> None:
        """Compare the weights with those of the undisturbed run."""
        if _digest(out / "model.safetensors") != self.weights:
            raise StressError("the weights differ from those of the undisturbed run")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _checkpoints(out: Path) -> dict[int, Path]:
    return {int(p.name.split("-")[1]): p for p in (out / "checkpoints").glob("checkpoint-*")}


def _is_sealed(checkpoint: Path) -> bool:
    return (checkpoint / CHECKSUMS).exists()


def _wait(process: subprocess.Popen[bytes], happened: Callable[[], bool], pause: float = 0.002) -> bool:
    """Wait until something happened; False if the process ended before."""
    until = time.monotonic() + _PATIENCE
    while not happened():
        if process.poll() is not None:
            return False
        if time.monotonic() > until:
            raise StressError("a training made no progress")
        time.sleep(pause)
    return True


def _undisturbed(bench: Bench) -> None:
    out = bench.folder / "undisturbed"
    process = bench.start(out)
    if not _wait(process, lambda: bool(_checkpoints(out))):
        raise StressError(f"the undisturbed run wrote no checkpoint: {bench.log(out).read_text()[-300:]}")
    started = time.monotonic()
    if process.wait(_PATIENCE) != 0:
        raise StressError(f"the undisturbed run failed: {bench.log(out).read_text()[-300:]}")
    bench.seconds, bench.weights = time.monotonic() - started, _digest(out / "model.safetensors")


def _kill_once(bench: Bench, out: Path, aimed: bool) -> bool | None:
    """Start or go on, and kill after a step: while a checkpoint is written if aimed, else at any moment from then on.

    Returns:
        Whether it died while writing a checkpoint; None if it came to its end before.
    """
    before = max(_checkpoints(out), default=0)
    process = bench.start(out, *([RESUME] if before else []))
    if not _wait(process, lambda: any(step > before and _is_sealed(p) for step, p in _checkpoints(out).items())):
        return None
    if aimed:
        skipped = bench.draw.randrange(3)  # so that it is not always the second step after a start
        _wait(
            process,
            lambda: any(s > before + 1 + skipped and not _is_sealed(p) for s, p in _checkpoints(out).items()),
            0,
        )
        time.sleep(bench.draw.uniform(0, 0.005))
    else:
        time.sleep(bench.draw.uniform(0, bench.seconds / 4))
    if process.poll() is not None:
        return None
    process.kill()
    process.wait()
    return not all(_is_sealed(path) for path in _checkpoints(out).values())


def _kills(bench: Bench) -> str:
    """Killed again and again, it ends at the same weights."""
    killed = written = folders = attempts = 0
    out = bench.folder / "killed-0"
    while killed < bench.kills:
        attempts += 1
        if attempts > 4 * bench.kills + 8:
            raise StressError(f"only {killed} kills in {attempts} attempts")
        died_writing = _kill_once(bench, out, aimed=attempts % 2 == 1)
        if died_writing is None:  # it came to its end
            bench.finish(out, RESUME)
            bench.check(out)
            folders += 1
            out = bench.folder / f"killed-{folders}"
        else:
            killed, written = killed + 1, written + died_writing
    bench.finish(out, RESUME)
    bench.check(out)
    return f"{killed} kills, {written} of them while a checkpoint was written; {folders + 1} runs, all bit-identical"


def _full_disk(bench: Bench) -> str:
    """On a full disk it ends with one sentence, and with room it goes on."""
    disk = bench.folder / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK}m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        return "not run: a tmpfs can be mounted by root only"
    out = disk / "run"
    try:
        code = bench.start(out).wait(_PATIENCE)
        said = bench.log(out).read_text()
        errors = [line for line in said.splitlines() if line.startswith("error: ")]
        if code != 2 or len(errors) != 1 or "is full" not in errors[0] or "Traceback" in said:
            raise StressError(f"ended with {code}: {said[-300:]}")
        left = _checkpoints(out)
        if not left or any(not is_complete(path) or damaged_file(path) for path in left.values()):
            raise StressError(f"left {sorted(left)}, not all of them whole")
        subprocess.run(["mount", "-o", "remount,size=512m", str(disk)], check=True, capture_output=True)
        bench.finish(out, RESUME)
        bench.check(out)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
    return f"one sentence, code 2, checkpoints {sorted(left)} whole; with room again, bit-identical"


def _twice(bench: Bench) -> str:
    """A second run in the folder is refused, and the first goes on."""
    out = bench.folder / "twice"
    first = bench.start(out)
    _wait(first, lambda: bool(_checkpoints(out)))
    first.send_signal(signal.SIGSTOP)  # the second must not come after its end on a slow machine
    try:
        for words in ([], [RESUME]):
            command = [sys.executable, "train.py", "configs/quickstart.yaml", "--output_dir", str(out), *words]
            command += ["--data_dir", str(bench.folder / "phantoms")]
            said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=_PATIENCE, check=False)
            if said.returncode != 2 or "is being written by another run" not in said.stderr:
                raise StressError(f"{words}: ended with {said.returncode}: {said.stderr[-300:]}")
    finally:
        first.send_signal(signal.SIGCONT)
    if first.wait(_PATIENCE) != 0:
        raise StressError(f"the first run failed: {bench.log(out).read_text()[-300:]}")
    bench.check(out)
    return "the second is refused with code 2, with and without --resume_from_checkpoint; the first is bit-identical"


def _flipped(bench: Bench) -> str:
    """A flipped byte is noticed, and the checkpoint before is used."""
    names = ("model.safetensors", "optimizer.pt", "ema.safetensors")
    for name in names:
        out = bench.folder / f"flipped-{name}"
        process = bench.start(out)
        _wait(process, lambda out=out: sum(_is_sealed(p) for p in _checkpoints(out).values()) >= 2)
        process.kill()
        process.wait()
        newest = max(step for step, path in _checkpoints(out).items() if _is_sealed(path))
        path = _checkpoints(out)[newest] / name
        content = bytearray(path.read_bytes())
        content[bench.draw.randrange(len(content))] ^= 1 << bench.draw.randrange(8)
        path.write_bytes(content)
        said = bench.finish(out, RESUME)
        if f"checkpoint-{newest} is damaged ({name} is not as it was saved)" not in said:
            raise StressError(f"one bit of {name} was flipped and nobody noticed")
        bench.check(out)
    return f"one bit of {', '.join(names)}: each named, the checkpoint before used, bit-identical in the end"


PARTS = {
    "kills": ("SIGKILL at random moments after the first step", _kills),
    "disk": (f"a disk of {_DISK} MiB that fills up", _full_disk),
    "twice": ("two runs in one folder", _twice),
    "flipped": ("a flipped bit in the newest checkpoint", _flipped),
}


def main() -> None:
    """Try the parts, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="how many (default: 20)")
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts, with commas (default: {','.join(PARTS)})")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    options = parser.parse_args()
    failed = False
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no training, folder or disk stays behind
    with tempfile.TemporaryDirectory(prefix="brain-mri-stress-") as folder:
        bench = Bench(Path(folder), options.kills, random.Random(options.seed))
        write_phantoms(bench.folder / "phantoms", train_per_class=12, test_per_class=2, size=64, slices_per_patient=2)
        try:
            _undisturbed(bench)
            print("| what happens to a training | holds | seen | seconds |\n|---|---|---|---:|", flush=True)
            for name in options.only.split(","):
                what, part = PARTS[name]
                started = time.monotonic()
                try:
                    seen = part(bench)
                    holds = "-" if seen.startswith("not run") else "yes"
                except StressError as error:
                    seen, holds, failed = str(error).replace("\n", " ").replace("|", "/"), "NO", True
                print(f"| {what} | {holds} | {seen} | {time.monotonic() - started:.0f} |", flush=True)
        finally:
            for process in bench.running:
                process.kill()
    sys.exit(failed)


if __name__ == "__main__":
    main()
