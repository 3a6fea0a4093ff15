from __future__ import annotations

import os
from pathlib import Path

import pytest

from brain_mri.utils.files import read_json, readable_as_usual, write_json, write_table, written_whole


def test_a_file_is_replaced_only_when_its_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    with written_whole(path) as partial:
        partial.write_text("one")
        assert not path.exists()
        assert partial.parent == path.parent, "renaming across file systems would not be atomic"
    with written_whole(path) as partial:
        partial.write_text("two")
        assert path.read_text() == "one"
    assert path.read_text() == "two"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("folder", [False, True])
def test_a_block_that_fails_leaves_nothing(tmp_path: Path, error: type[BaseException], folder: bool) -> None:
    with pytest.raises(error), written_whole(tmp_path / "target", folder=folder) as partial:
        (partial / "a.txt" if folder else partial).write_text("half")
        raise error
    assert not list(tmp_path.iterdir())


def test_a_block_that_fails_leaves_the_file_from_before(tmp_path: Path) -> None:
    write_json({"kept": True}, tmp_path / "a.json")
    with pytest.raises(OSError), written_whole(tmp_path / "a.json") as partial:
        partial.write_text("half")
        raise OSError
    assert read_json(tmp_path / "a.json") == {"kept": True}
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_appears_at_once_without_what_a_killed_process_left(tmp_path: Path) -> None:
    (tmp_path / ".data.partial").mkdir()
    (tmp_path / ".data.partial" / "stale.txt").touch()
    with written_whole(tmp_path / "data", folder=True) as partial:
        (partial / "new.txt").touch()
        assert not (tmp_path / "data").exists()
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["new.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_folder_with_something_in_it_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.txt").touch()
    with pytest.raises(OSError), written_whole(tmp_path / "data", folder=True) as partial:
        (partial / "new.txt").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["data", "mine.txt"]


def test_a_table_quotes_what_needs_it(tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv", ("file_name", "x"), [("a,b.png", 0.5), ("c.png", "")])
    assert (tmp_path / "a.csv").read_bytes() == b'file_name,x\n"a,b.png",0.5\nc.png,\n'


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o007, 0o660)])
def test_a_file_gets_the_mode_that_the_user_s_new_files_have(tmp_path: Path, umask: int, mode: int) -> None:
    path = tmp_path / "weights.safetensors"
    path.touch(0o600)
    before = os.umask(umask)
    try:
        readable_as_usual(path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == mode and list(tmp_path.iterdir()) == [path]
