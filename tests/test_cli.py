from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from brain_mri.cli import main
from brain_mri.errors import CUT_OFF_EXIT_CODE, ConfigError


def test_audit_is_the_leakage_command(phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["audit", str(phantoms), "--output", str(tmp_path / "audit"), "--processes", "1"])
    assert "test images" in capsys.readouterr().out and (tmp_path / "audit" / "audit.json").is_file()


def test_predict_is_the_inference_command(
    guided_model: Path, phantoms: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = next((phantoms / "test").glob("*/*.png"))
    main(["predict", str(picture), "--model", str(guided_model)])
    assert picture.name in capsys.readouterr().out


def test_help_lists_the_commands_and_an_unknown_one_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    said = capsys.readouterr().out
    assert "audit" in said and "predict" in said
    with pytest.raises(ConfigError, match="no command 'publsh': brain-mri has audit, predict"):
        main(["publsh"])


def test_a_reader_that_has_seen_enough_ends_a_command_without_a_word() -> None:
    code = "from brain_mri.errors import run_command; run_command(lambda: print('line\\n' * 10**6))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        assert process.stdout.readline() == b"line\n"
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait() == CUT_OFF_EXIT_CODE
