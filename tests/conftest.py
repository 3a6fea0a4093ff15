"""What the tests share: where the real data is, phantoms to train on, and a quiet offline environment."""

from __future__ import annotations

import gc
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before the libraries are imported, which read it once
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")

import pytest
from filelock import FileLock

if TYPE_CHECKING:
    from datasets import DatasetDict
    from support.hub_state import TinyHub

    from brain_mri.data.transforms import Preprocessing

BuildOnce = Callable[[str, Callable[[Path], object]], Path]


def pytest_collection() -> None:
    """The tests import all that there is; the garbage collector would search it again and again for nothing."""
    gc.disable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files of many slow tests come first, so that no process is left with one of them at the end."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


def pytest_collection_finish() -> None:
    """What was imported stays, so it is never searched."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder that holds `brain-tumor-mri/` and `figshare-224/`, from BRAIN_MRI_DATA."""
    folder = os.environ.get("BRAIN_MRI_DATA")
    if not folder:
        pytest.skip("BRAIN_MRI_DATA is not set: it names the folder that holds brain-tumor-mri/ and figshare-224/")
    return Path(folder)


@pytest.fixture(scope="session")
def built_once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> BuildOnce:
    """Builds a folder that all tests read and none changes: by one of pytest's processes, for all of them."""
    own = tmp_path_factory.getbasetemp()
    shared = own if worker_id == "master" else own.parent

    def build(name: str, make: Callable[[Path], object]) -> Path:
        folder = shared / "shared" / name
        folder.parent.mkdir(exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not (done := folder.with_suffix(".done")).exists():
                shutil.rmtree(folder, ignore_errors=True)
                make(folder)
                done.touch()
        return folder

    return build


@pytest.fixture(scope="session")
def phantoms(built_once: BuildOnce) -> Path:
    """A small synthetic set: 12 training and 6 test pictures of each class, with patients and boxes."""
    from brain_mri.phantom.dataset import write_phantoms

    options = {"train_per_class": 12, "test_per_class": 6, "size": 64, "slices_per_patient": 2}
    return built_once("synthetic", lambda folder: write_phantoms(folder, **options))


@pytest.fixture(scope="session")
def reviewed(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phantoms with a `review.csv`: of no_tumor, 2 test images are `ct`, a training image `ct` and two `lesion`."""
    folder = tmp_path_factory.mktemp("reviewed") / "synthetic"
    shutil.copytree(phantoms, folder)
    files = [*sorted(folder.glob("test/no_tumor/*"))[:2], *sorted(folder.glob("train/no_tumor/*"))[-3:]]
    rows = zip(
        (file.relative_to(folder).as_posix() for file in files), ("ct", "ct", "ct", "lesion", "lesion"), strict=True
    )
    (folder / "review.csv").write_text("file_name,finding\n" + "".join(f"{name},{what}\n" for name, what in rows))
    return folder


@pytest.fixture(scope="session")
def guided_model(phantoms: Path, built_once: BuildOnce) -> Path:
    """A whole model folder that train.py left: a tiny network, a few guided steps on phantoms, ONNX files and guard."""
    words = ["configs/quickstart.yaml", "--data_dir", str(phantoms), "--guidance", "0.3", "--image_size", "96"]
    words += ["--num_train_epochs", "12", "--per_device_train_batch_size", "8", "--learning_rate", "5e-3"]
    words += ["--preprocessing_workers", "1"]

    def train(folder: Path) -> None:
        from support.doors import run_train

        run_train(*words, "--output_dir", str(folder))

    return built_once("guided", train)


@pytest.fixture
def model(guided_model: Path, tmp_path: Path) -> Path:
    """A copy of that folder's published part, which a test may change."""
    from brain_mri.hub.release import copy_published

    return copy_published(guided_model, tmp_path / "model")[0].parent


@pytest.fixture(scope="session")
def preprocessing() -> Preprocessing:
    """That of the network of `small_training`."""
    from support.small_training import MODEL

    from brain_mri.data.transforms import Preprocessing
    from brain_mri.models.build import build_config, build_processor

    return Preprocessing.of(build_processor(build_config(MODEL), MODEL))


@pytest.fixture(scope="session")
def splits(phantoms: Path, preprocessing: Preprocessing) -> DatasetDict:
    """The phantoms, prepared for it."""
    from brain_mri.arguments import DataArguments
    from brain_mri.data.prepare import prepare_images, split_images

    args = DataArguments(data_dir=str(phantoms))
    return split_images(prepare_images(args, preprocessing), args)


@pytest.fixture(scope="session", autouse=True)
def own_caches(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Prepared pixels of test pictures don't belong in the user's cache of datasets."""
    import datasets

    datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN = 0  # 5 s after a pass over a stream, for a process that ends then
    folder = tmp_path_factory.mktemp("datasets")
    datasets.config.HF_DATASETS_CACHE = folder
    os.environ["HF_DATASETS_CACHE"] = str(folder)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[TinyHub]:
    from support.hub_server import tiny_hub

    with tiny_hub(tmp_path / "hub") as running:
        yield running


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Points this process's own client at a Hub, as the environment does at its start."""

    from huggingface_hub import constants
    from huggingface_hub.utils import close_session

    def point(url: str, token: str = "hf_owner") -> None:
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", token)

    yield point
    close_session()


@pytest.fixture(autouse=True)
def _bars_are_shown() -> None:
    """As at the start of a process: a training with `--disable_tqdm` in another test hides those that follow."""
    from brain_mri.utils.progress import show_bars

    show_bars(True)
