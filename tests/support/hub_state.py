"""What the tiny Hub of `hub_server.py` keeps: repositories with all their commits, files by their SHA-256, on disk."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Tree = dict[str, dict[str, Any]]


class RefusedError(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass
class TinyHub:
    """The state on disk, who may do what, and the faults that a test asks for.

    Attributes:
        folder: where the state lies.
        users: the name behind each token; a token whose name ends in `:read` may not write.
        log: "METHOD path" of every request so far.
        faults: what to do with requests: a regular expression on "METHOD path", and a status, `drop` or `hang`.
        bytes_read: of large files, by all readers so far.
        storage_saw_token: whether the storage host was ever shown one.
        held: set once a request hangs; it does until `released` is set.
    """

    folder: Path
    users: dict[str, str] = field(default_factory=lambda: {"hf_owner": "me", "hf_reader": "me:read"})
    log: list[str] = field(default_factory=list)
    faults: dict[str, int | str] = field(default_factory=dict)
    storage_saw_token: bool = False
    bytes_read: int = 0
    held: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)
    url: str = ""
    storage_url: str = ""
    lock: threading.RLock = field(default_factory=threading.RLock)

    def path(self, kind: str, name: str) -> Path:
        return self.folder / kind / f"{name}.json"

    def load(self, kind: str, name: str) -> dict[str, Any]:
        if not self.path(kind, name).is_file():
            raise RefusedError(404, "Repository not found", "RepoNotFound")
        repo: dict[str, Any] = json.loads(self.path(kind, name).read_text())
        return repo

    def save(self, repo: dict[str, Any]) -> None:
        path = self.path(repo["kind"], repo["name"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".partial").write_text(json.dumps(repo))
        os.replace(path.with_suffix(".partial"), path)

    def create(self, kind: str, name: str, private: bool = False, sdk: str | None = None) -> dict[str, Any]:
        repo = {"kind": kind, "name": name, "private": private, "sdk": sdk, "variables": {}, "commits": []}
        self.commit(repo, {".gitattributes": self.blob(b"*.onnx filter=lfs\n")}, "initial commit")
        return repo

    def commit(self, repo: dict[str, Any], tree: Tree, title: str) -> str:
        content = json.dumps([tree, title, len(repo["commits"]), repo["name"], repo["kind"]], sort_keys=True)
        oid = hashlib.sha1(content.encode()).hexdigest()
        repo["commits"].append({"oid": oid, "title": title, "tree": tree})
        self.save(repo)
        return oid

    def object_path(self, sha256: str) -> Path:
        return self.folder / "objects" / sha256

    def blob(self, content: bytes) -> dict[str, Any]:
        """Keep a small file; what the tree says of it."""
        sha256 = hashlib.sha256(content).hexdigest()
        self.object_path(sha256).parent.mkdir(parents=True, exist_ok=True)
        self.object_path(sha256).write_bytes(content)
        oid = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        return {"oid": oid, "size": len(content), "sha256": sha256, "lfs": False}

    def commits(self, kind: str, name: str) -> list[str]:
        return [commit["title"] for commit in self.load(kind, name)["commits"]]

    def content(self, kind: str, name: str) -> dict[str, bytes]:
        """Every file of the newest commit."""
        tree = self.load(kind, name)["commits"][-1]["tree"]
        return {path: self.object_path(entry["sha256"]).read_bytes() for path, entry in tree.items()}


def revision_of(repo: dict[str, Any], name: str) -> dict[str, Any]:
    for commit in reversed(repo["commits"]):
        if name in ("main", commit["oid"]):
            found: dict[str, Any] = commit
            return found
    raise RefusedError(404, "Invalid rev id", "RevisionNotFound")


def listed(path: str, entry: dict[str, Any]) -> dict[str, Any]:
    """An entry of a tree as the Hub lists it."""
    answer = {"type": "file", "path": path, "oid": entry["oid"], "size": entry["size"]}
    pointer = {"oid": entry["sha256"], "size": entry["size"], "pointerSize": 130}
    return answer | ({"lfs": pointer} if entry["lfs"] else {})


def fresh_environment(home: Path, url: str, **variables: str) -> dict[str, str]:
    """That of a user who knows nothing but the Hub's address: no cache, no token, not offline."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING", "TRANSFORMERS_"))}
    fresh = {"HF_HOME": str(home), "HF_ENDPOINT": url, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    return kept | fresh | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""} | variables


def run_python(words: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """What such a user's Python did and said, in the project's root."""
    root = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, *words], cwd=root, env=environment, capture_output=True, text=True, check=False
    )


def json_answer(code: str, environment: dict[str, str], *words: str) -> Any:
    """The JSON that a fresh Python prints last."""
    done = run_python(["-c", code, *words], environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
