from __future__ import annotations

from pathlib import Path

import pytest

from brain_mri.errors import ConfigError
from brain_mri.utils.locks import hold


@pytest.mark.parametrize("folder", ["a_file/folder", "x" * 300, "/proc/nothing", "/proc/self"])
def test_a_folder_that_can_not_be_written_is_one_sentence(folder: str, tmp_path: Path) -> None:
    (tmp_path / "a_file").write_text("")
    with pytest.raises(ConfigError, match=r"can't be (made|written to) \(.*\): choose another"):
        hold(tmp_path / folder)
