"""The wall: what it reads is what is read without it, and no file takes the program down."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image
from support.hostile_files import noise
from support.scans import dicom, head, placed, zipped

from brain_mri.errors import ImageError, NotMRIError
from brain_mri.io.budget import Budget, BudgetError
from brain_mri.io.images import read_image
from brain_mri.io.volumes import read_slices
from brain_mri.io.wall import LostError, Wall, _Worker

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no limits for processes there")
_HEAD = (head() / head().max() * 255).astype(np.uint8)
_CODE = str(Path(__file__).parents[2])


@pytest.fixture(scope="module")
def wall() -> Iterator[Wall]:
    made = Wall(2)
    yield made
    made.close()


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _volume() -> bytes:
    voxels = np.stack([head(mark=k) for k in range(12)], axis=2).astype(np.int16)
    return bytes(nibabel.Nifti1Image(voxels, np.diag([1.0, 1.0, 5.0, 1.0])).to_bytes())


def _workers(wall: Wall) -> list[int]:
    return [worker._process.pid for worker in wall._idle]


@pytest.mark.parametrize("content", [_png(_HEAD), _png(np.stack([_HEAD] * 3, axis=2)), dicom(head())])
def test_a_picture_is_the_same_behind_the_wall(wall: Wall, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "slice").write_bytes(content)
    for source in (content, tmp_path / "slice", str(tmp_path / "slice")):
        assert wall.read_image(source, single=True).tobytes() == read_image(source, single=True).tobytes()


def test_slices_names_notes_and_series_are_the_same_behind_the_wall(wall: Wall) -> None:
    series = {f"{k}.dcm": placed(k) for k in range(3)} | {"head.png": _png(_HEAD), "notes.txt": b"words"}
    for content in (_volume(), zipped(series), _png(_HEAD)):
        here, there = read_slices(content, "given"), wall.read_slices(content, "given")
        assert [image.tobytes() for image in there.images] == [image.tobytes() for image in here.images]
        for field in ("names", "is_volume", "kind", "notes", "series"):
            assert getattr(there, field) == getattr(here, field)


@pytest.mark.parametrize("content", [b"words", b"", _png(_HEAD)[:200], dicom(None), b"\x89PNG\r\n\x1a\n" + b"x" * 50])
def test_a_refusal_is_the_same_behind_the_wall(wall: Wall, content: bytes) -> None:
    with pytest.raises(ImageError) as here:
        read_slices(content, "given")
    with pytest.raises(ImageError) as there:
        wall.read_slices(content, "given")
    assert str(here.value) == str(there.value) and type(here.value) is type(there.value)
    assert here.value.fault == there.value.fault


def test_no_mr_by_its_header_stays_no_mr(wall: Wall) -> None:
    with pytest.raises(NotMRIError):
        wall.read_image(dicom(head(), Modality="CT"))


def test_a_file_of_a_strange_name_is_read(wall: Wall, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/a\xff\n\x1b[31m.png"))
    path.write_bytes(_png(_HEAD))
    assert wall.read_slices(path).images[0].tobytes() == read_image(_png(_HEAD)).tobytes()


def test_a_file_that_needs_too_much_memory_is_one_sentence_and_the_next_is_read() -> None:
    small = Wall(1, memory=2**25)
    with pytest.raises(ImageError, match="large: "):
        small.read_image(_png(np.zeros((4000, 4000, 3), np.uint8)), "large")
    assert small.read_image(_png(_HEAD)).size == (64, 64)
    small.close()


@pytest.mark.parametrize("ended_by", [signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP])
def test_a_worker_that_dies_or_hangs_is_one_sentence_and_the_next_file_is_read(ended_by: signal.Signals) -> None:
    one = Wall(1, least_seconds=0.2)
    one.read_image(_png(_HEAD))
    (worker,) = _workers(one)
    os.kill(worker, ended_by)
    started = time.monotonic()
    with pytest.raises(ImageError, match="given: "):
        one.read_image(_png(_HEAD), "given")
    assert time.monotonic() - started < 5
    assert one.read_image(_png(_HEAD)).size == (64, 64) and worker not in _workers(one)
    one.close()


def test_what_computes_without_an_end_is_ended_by_the_system() -> None:
    code = "from brain_mri.io.wall_worker import allow\nallow(0.5)\nwhile True: pass"
    ended = subprocess.run([sys.executable, "-c", code], cwd=_CODE, timeout=60, check=False)
    assert ended.returncode == -signal.SIGXCPU


def test_a_worker_reads_a_limited_number_of_files(wall: Wall, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brain_mri.io.wall._FILES", 3)
    one, seen = Wall(1), []
    for _ in range(7):
        one.read_image(_png(_HEAD))
        seen.append(_workers(one)[0])
    assert len(set(seen)) == 3
    one.close()


def test_many_threads_read_at_once(wall: Wall) -> None:
    pictures = [_png(np.full((20 + k, 30), k, np.uint8)) for k in range(40)]
    with ThreadPoolExecutor(16) as threads:
        sizes = [image.size for image in threads.map(wall.read_image, pictures)]
    assert sizes == [(30, 20 + k) for k in range(40)] and len(_workers(wall)) <= 2


def test_a_worker_may_not_write_a_file(wall: Wall) -> None:
    wall.read_image(noise("PNG"))
    limits = Path(f"/proc/{_workers(wall)[0]}/limits")
    if not limits.exists():
        pytest.skip("no /proc here")
    held = {line[:26].strip(): line[26:].split()[0] for line in limits.read_text().splitlines()[1:]}
    assert held["Max file size"] == held["Max core file size"] == "0" and held["Max address space"] != "unlimited"


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] == "Z"


@pytest.mark.parametrize("ended_by", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_their_program_however_it_ends(ended_by: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "slice.png").write_bytes(_png(_HEAD))
    code = (
        "import sys, time\nfrom brain_mri.io.wall import Wall\nwall = Wall(1)\n"
        "wall.read_image(sys.argv[1])\nprint(wall._idle[0]._process.pid, flush=True)\ntime.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "slice.png")]
    with subprocess.Popen(command, cwd=_CODE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        worker = int(program.stdout.readline())
        program.send_signal(ended_by)
    deadline = time.monotonic() + 10
    while not _gone(worker):
        assert time.monotonic() < deadline, "the worker lives on"
        time.sleep(0.05)


@pytest.mark.slow
def test_a_file_that_passes_every_check_and_asks_for_gigabytes_is_one_sentence(wall: Wall) -> None:
    bomb = Path(__file__).parents[1] / "regressions" / "wall" / "j2k_precincts.dcm"
    with pytest.raises(ImageError):
        wall.read_slices(bomb)
    assert wall.read_image(_png(_HEAD)).size == (64, 64)


def test_files_share_the_time_that_a_request_may_take(wall: Wall) -> None:
    budget = Budget(seconds=2.0)
    noisy = _png(
        np.random.default_rng(0).integers(0, 256, (2000, 2000, 3), np.uint8)
    )  # takes longer than a clock's tick
    wall.read_slices(noisy, budget=budget)
    assert 0 < budget.seconds < 2.0, "what it took is taken away"
    budget.spend(2.0)
    with pytest.raises(BudgetError):
        wall.read_slices(_png(_HEAD), budget=budget)


def test_a_file_that_is_ended_for_the_time_of_others_is_not_blamed() -> None:
    one = Wall(1, least_seconds=60)
    one.read_image(_png(_HEAD))
    os.kill(_workers(one)[0], signal.SIGKILL)
    budget = Budget(seconds=5.0)
    with pytest.raises(BudgetError):
        one.read_slices(_png(_HEAD), budget=budget)
    assert budget.seconds <= 0
    one.close()


def test_a_folder_does_not_get_the_time_of_a_thousand_gigabytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed: list[float] = []
    monkeypatch.setattr(_Worker, "ask", lambda self, question, content, seconds: allowed.append(seconds) or _lost())
    for name in ("a.nii", "b.nii"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(2**40)
    one = Wall(1)
    with pytest.raises(ImageError):
        one.read_slices(tmp_path)
    assert allowed[0] < 100
    one.close()


def _lost() -> None:
    raise LostError
