from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from brain_mri.cli import main
from brain_mri.errors import CUT_OFF_EXIT_CODE, USER_ERROR_EXIT_CODE, ConfigError, run_command

_COMMANDS = (
    "train",
    "evaluate",
    "crossval",
    "audit",
    "predict",
    "publish",
    "push_data",
    "shards",
    "quickstart",
    "card",
    "export",
)


def test_audit_is_the_leakage_command(phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["audit", str(phantoms), "--output", str(tmp_path / "audit"), "--processes", "1"])
    assert "test images" in capsys.readouterr().out and (tmp_path / "audit" / "audit.json").is_file()


def test_predict_is_the_inference_command(
    guided_model: Path, phantoms: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = next((phantoms / "test").glob("*/*.png"))
    main(["predict", str(picture), "--model", str(guided_model)])
    assert picture.name in capsys.readouterr().out


def test_help_lists_the_commands_and_an_unknown_one_is_refused_with_the_nearest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main([])
    said = capsys.readouterr().out
    assert all(f"\n  {command} " in said for command in _COMMANDS)
    with pytest.raises(ConfigError, match=r"no command 'publsh': .*publish"):
        main(["publsh"])


@pytest.mark.parametrize("command", _COMMANDS)
def test_every_command_says_what_it_can_be_told(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    said = capsys.readouterr().out
    assert end.value.code == 0 and said.startswith(f"usage: brain-mri {command} ")


def test_card_writes_the_card_of_a_model_folder(model: Path) -> None:
    (model / "README.md").unlink()
    main(["card", str(model)])
    assert "not" in (model / "README.md").read_text()


@pytest.mark.parametrize("target", ["a_file/folder", "x" * 300, "/proc/nothing", "/proc/self/new"])
def test_a_path_that_can_not_be_written_is_one_sentence(
    target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a_file").write_text("")
    with pytest.raises(SystemExit) as end:
        run_command(lambda: main(["phantom", str(tmp_path / target)]))
    said = capsys.readouterr().err
    assert end.value.code == USER_ERROR_EXIT_CODE and said.startswith("error: ") and said.count("\n") == 1


def test_a_reader_that_has_seen_enough_ends_a_command_without_a_word() -> None:
    code = "from brain_mri.errors import run_command; run_command(lambda: print('line\\n' * 10**6))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        assert process.stdout.readline() == b"line\n"
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait() == CUT_OFF_EXIT_CODE
