"""What the tests share: where the real data is, phantoms to train on, and a quiet offline environment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder that holds `brain-tumor-mri/` and `figshare-224/`, from BRAIN_MRI_DATA."""
    folder = os.environ.get("BRAIN_MRI_DATA")
    if not folder:
        pytest.skip("BRAIN_MRI_DATA is not set: it names the folder that holds brain-tumor-mri/ and figshare-224/")
    return Path(folder)
