"""Uploads in, predictions out: the model that is served, and what becomes of uploads."""

from __future__ import annotations

import math
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from brain_mri.errors import ConfigError, DataError, ImageError, NotMRIError
from brain_mri.inference.classifier import BrainMRIClassifier
from brain_mri.inference.predictions import Prediction, VolumePrediction, not_mri
from brain_mri.io.budget import Budget
from brain_mri.io.images import one_channel
from brain_mri.io.untrusted import MAX_MEMBERS, MAX_VOXELS, printable
from brain_mri.io.volumes import Slices
from brain_mri.model_folder import DESCRIPTION, ModelRecords, read_records
from page.jobs import BusyError, Steps

Answer = Prediction | VolumePrediction

_ROOT = Path(__file__).resolve().parents[2]
_NAME_BYTES = 200  # of an upload's name; a file system takes 255
_PATH_LETTERS = 1000
_MOST_PIXELS = 2 * MAX_VOXELS  # of all volumes that are judged at a time; each is kept twice, with a byte a pixel
_STEP = 8  # slices judged without looking whether anybody still waits for them


class ExpiredError(ImageError):
    """An upload that has been deleted since it was given."""


def find_model() -> str:
    """What MODEL_ID names, else the `release/` folder of the repository.

    Raises:
        ConfigError: there is neither.
    """
    if named := os.environ.get("MODEL_ID"):
        return named
    if (_ROOT / "release" / "onnx").is_dir():
        return str(_ROOT / "release")
    raise ConfigError(
        "no model to serve: set MODEL_ID to a model folder that train.py left, or to its id on the Hub (USER/NAME), "
        "or put such a folder at release/."
    )


class Service:
    """One model, and the folder that uploads come to.

    Args:
        model: a folder, or an id on the Hub.
        uploads: the folder; only files in it are ever read.
        keep: seconds after which an upload is deleted.

    Raises:
        ConfigError: no such model.
    """

    def __init__(self, model: str, uploads: Path, keep: float) -> None:
        self.classifier = BrainMRIClassifier.from_pretrained(model, wall=sys.platform != "win32")
        self.model = Path(model).resolve().name if Path(model).is_dir() else model
        self.uploads, self.keep = uploads.resolve(), keep
        self._held, self._lock = 0, threading.Lock()
        self.folder: Path | None = None
        self.records: ModelRecords | None = None
        self.records_missing = ""
        try:
            self.folder = Path(model) if Path(model).is_dir() else _about_folder(model)
            self.records = read_records(self.folder)
        except (DataError, OSError) as error:  # the model answers all the same
            self.records_missing = str(error).splitlines()[0]

    @property
    def minutes(self) -> int:
        """How long an upload is kept, for people: whole minutes, the sweep's own interval included."""
        return math.ceil((self.keep + self._pause) / 60)

    @property
    def _pause(self) -> float:
        return min(self.keep / 4, 30)

    @property
    def coverage(self) -> float | None:
        """What prediction sets were calibrated to; None of a model without calibration."""
        return self.classifier.thresholds.coverage if self.classifier.thresholds else None

    @property
    def threshold(self) -> float | None:
        """The probability below which no class is named; above 1 where none was high enough on validation."""
        return self.classifier.thresholds.referral if self.classifier.thresholds else None

    def read(self, files: Any, series: int | None = None, budget: Budget | None = None) -> Slices:
        """The slices of what was uploaded.

        Args:
            files: a list of uploads as gradio describes them, `path` and `orig_name` among the keys. It comes from
                outside and may be anything.
            series: the number of the series to read; default: by the rule of `io.entries`.
            budget: what other uploads of the same request have left.

        Raises:
            ImageError: nothing that can be read, too many files, or no such series.
            BudgetError: the budget is used up.
            ExpiredError: it has been deleted.
        """
        if not isinstance(files, list) or not files:
            raise ImageError("no file was given: choose, drop or paste one, or take an example.", "no_file")
        if len(files) > MAX_MEMBERS:
            raise ImageError(f"these are more than {MAX_MEMBERS:,} files: send fewer, or a zip of them.", "too_many")
        uploads = list(dict.fromkeys(self._uploaded(file) for file in files))  # none counts twice
        if len(uploads) == 1:
            return self.classifier.read_slices(*uploads[0], series=series, budget=budget)
        with tempfile.TemporaryDirectory(dir=self.uploads) as folder:
            same_names = len({name for _, name in uploads}) < len(uploads)
            for i, (path, name) in enumerate(uploads):
                link = Path(folder, str(i), name) if same_names else Path(folder, name)
                link.parent.mkdir(exist_ok=True)
                link.symlink_to(path)
            return self.classifier.read_slices(folder, f"{len(uploads)} files", series=series, budget=budget)

    @contextmanager
    def _room(self, slices: Slices) -> Iterator[None]:
        """Count the pixels of a volume while it is judged.

        Raises:
            BusyError: with those of all others they are too many; a volume that is alone is always judged.
        """
        with self._lock:
            if self._held and self._held + slices.pixels > _MOST_PIXELS:
                raise BusyError
            self._held += slices.pixels
        try:
            yield
        finally:
            with self._lock:
                self._held -= slices.pixels

    def judging(
        self, files: Any, *, alone: bool = False, series: int | None = None, budget: Budget | None = None
    ) -> Steps[Answer]:
        """The prediction of what was uploaded, one slice or a volume, in short steps.

        Args:
            files: see `read`.
            alone: refuse several slices.
            series: see `read`.
            budget: see `read`.

        Raises:
            ImageError: see `read`.
            BusyError: no memory is left for it beside the volumes that are being judged.
        """
        try:
            slices = self.read(files, series, budget)
        except NotMRIError as error:
            return not_mri(self._uploaded(files[0])[1], str(error))
        if alone and slices.is_volume:
            raise ImageError("this holds several slices: use /classify_volume.")
        found: list[Prediction] = []
        rest, count = self.classifier.predict_slices(slices), len(slices.names)
        with self._room(slices):
            while batch := list(islice(rest, _STEP)):
                found += [_light(one) for one in batch]
                if count > 1:
                    yield len(found), count
        if slices.is_volume:
            return self.classifier.summarize(found, slices.notes, slices.series, slices.lost)
        return replace(found[0], notes=slices.notes, series=slices.series)

    def _uploaded(self, file: Any) -> tuple[Path, str]:
        """The path of an upload, after making sure that it is one, and what its owner calls it."""
        described = file if isinstance(file, dict) else {}
        given, called = described.get("path"), described.get("orig_name") or ""
        is_path = isinstance(given, str) and 0 < len(given) <= _PATH_LETTERS and "\0" not in given
        path = Path(str(given)).resolve() if is_path else Path()
        if not path.is_relative_to(self.uploads):
            raise ImageError("only files that were uploaded here are read: upload the file first.")
        if not isinstance(called, str):
            raise ImageError("a file's orig_name is no text: give the name of the file.")
        name = printable(PurePosixPath((called or path.name).replace("\\", "/")).name)
        name = name.encode()[-_NAME_BYTES:].decode(errors="ignore")  # the end, which has the suffix
        name = name.lstrip(".") or "file"  # a hidden file might be passed over, and this one was given by hand
        if not os.path.isfile(path):  # no error for a name that is too long
            raise ExpiredError(name)
        return path, name

    def start_sweeping(self) -> None:
        """Delete, from now on, whatever lies in the folder for longer than `keep` seconds.

        Those of the page are deleted with its answer; these are those of programs, and those broken off midway.
        """
        threading.Thread(target=self._sweep_forever, daemon=True, name="sweeper").start()

    def _sweep_forever(self) -> None:
        while True:
            time.sleep(self._pause)
            self.sweep()

    def sweep(self) -> None:
        """Delete what is older than `keep` seconds, and the folders that this empties."""
        oldest = time.time() - self.keep
        for folder, _, names in os.walk(self.uploads, topdown=False):
            for path in (Path(folder, name) for name in names):
                with suppress(FileNotFoundError):  # an upload that was finished, and so renamed, in the meantime
                    if path.lstat().st_ctime < oldest:
                        path.unlink()
            with suppress(FileNotFoundError):
                if Path(folder) != self.uploads and Path(folder).stat().st_ctime < oldest and not os.listdir(folder):
                    shutil.rmtree(folder, ignore_errors=True)


def _light(prediction: Prediction) -> Prediction:
    """The same with a picture of one channel, where it is grey: a volume's slices are all kept until its answer."""
    return prediction if prediction.image is None else replace(prediction, image=one_channel(prediction.image))


def _about_folder(model: str) -> Path:
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(model, allow_patterns=list(DESCRIPTION)))
