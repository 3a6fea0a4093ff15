"""The hooks before a commit are those of `make quality`, and stop what it would stop."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

_ROOT = Path(__file__).parents[1]
_CONFIG = _ROOT / ".pre-commit-config.yaml"


def test_they_run_what_make_quality_runs() -> None:
    hooks = [hook for repository in yaml.safe_load(_CONFIG.read_text())["repos"] for hook in repository["hooks"]]
    quality = re.search(r"^quality:.*\n((?:\t.+\n)+)", (_ROOT / "Makefile").read_text(), re.MULTILINE)
    assert quality
    asked = [re.sub(r" --\w+| \.$", "", line.strip().removeprefix("$(BIN)/")) for line in quality[1].splitlines()]
    assert [hook["entry"].removesuffix(" --force-exclude") for hook in hooks] == asked
    assert all(hook["language"] == "system" for hook in hooks), "of the environment, so of pyproject's versions"


@pytest.mark.slow
def test_a_file_that_is_not_formatted_stops_the_commit(tmp_path: Path) -> None:
    pytest.importorskip("pre_commit", reason="pre-commit is not installed")
    for name in (".pre-commit-config.yaml", "pyproject.toml"):
        shutil.copyfile(_ROOT / name, tmp_path / name)
    (tmp_path / "room.py").write_text('"""A room."""\n\nx = [1,2]\n')
    bin_folders = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": bin_folders, "PRE_COMMIT_HOME": str(tmp_path / "cache")}
    for words in (["git", "init", "-q"], ["git", "add", "."]):
        subprocess.run(words, cwd=tmp_path, check=True)
    run = [sys.executable, "-m", "pre_commit", "run", "--all-files"]
    first, second = (
        subprocess.run([*run, hook], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        for hook in ("ruff-format", "ruff-check")
    )
    assert first.returncode == 1 and "files were modified" in first.stdout, first.stdout + first.stderr
    assert (tmp_path / "room.py").read_text().endswith("x = [1, 2]\n")
    assert second.returncode == 0, second.stdout + second.stderr
