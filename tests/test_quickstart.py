from __future__ import annotations

import re
from pathlib import Path

import pytest

from brain_mri import quickstart
from brain_mri.cli import main as brain_mri
from brain_mri.errors import ConfigError
from brain_mri.quickstart import main


def test_each_command_is_shown_as_it_could_be_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[list[str]] = []

    def only_pictures(words: list[str]) -> None:
        given.append(words)
        if words[0] == "phantom":
            brain_mri([*words, "--train_per_class", "1", "--test_per_class", "2", "--size", "64"])

    monkeypatch.setattr(quickstart, "brain_mri", only_pictures)
    main([str(tmp_path / "new")])
    shown = re.findall(r"^\$ brain-mri (.+)$", capsys.readouterr().out, re.MULTILINE)
    assert shown == [" ".join(words) for words in given]
    assert [words[0] for words in given] == ["phantom", "train", "evaluate", "predict"]
    assert Path(given[-1][1]).is_file(), "the picture asked about is one of the test pictures"


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is there already"):
        main([str(tmp_path)])
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_quickstart_ends_with_a_tumour_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(tmp_path / "new")])
    said = capsys.readouterr().out
    assert "glioma" in said.split("$ brain-mri predict")[1]
    assert (tmp_path / "new" / "model" / "evaluation" / "results.json").is_file()
