"""What the tests share: where the real data is, phantoms to train on, and a quiet offline environment."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before the libraries are imported, which read it once
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")

import datasets
import pytest

from brain_mri.phantom import write_phantoms


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder that holds `brain-tumor-mri/` and `figshare-224/`, from BRAIN_MRI_DATA."""
    folder = os.environ.get("BRAIN_MRI_DATA")
    if not folder:
        pytest.skip("BRAIN_MRI_DATA is not set: it names the folder that holds brain-tumor-mri/ and figshare-224/")
    return Path(folder)


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small synthetic set: 12 training and 6 test pictures of each class, with patients and boxes."""
    folder = tmp_path_factory.mktemp("phantoms") / "synthetic"
    return write_phantoms(folder, train_per_class=12, test_per_class=6, size=64, slices_per_patient=2)


@pytest.fixture(scope="session", autouse=True)
def own_caches(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Prepared pixels of test pictures don't belong in the user's cache of datasets."""
    folder = tmp_path_factory.mktemp("datasets")
    datasets.config.HF_DATASETS_CACHE = folder
    os.environ["HF_DATASETS_CACHE"] = str(folder)
