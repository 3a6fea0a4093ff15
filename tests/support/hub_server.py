"""A tiny Hub on loopback HTTP for the real huggingface_hub client: repositories, commits, large files, Space variables.

It answers what the client asks when it publishes a model, a Space or a data set and loads it again
(HF_HUB_DISABLE_XET=1: large files by LFS). As on the Hub, large files lie on another host, here another port, which
must never see a token.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from support.hub_state import RefusedError, TinyHub, Tree, listed, revision_of

LARGE = (".safetensors", ".onnx", ".png", ".zip", ".parquet")
_KINDS = {"models": "model", "spaces": "space", "datasets": "dataset"}
_REPO = r"(?P<kind>models|spaces|datasets)/(?P<name>[^/]+/[^/]+)"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: TinyHub
    is_storage = False

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on stderr, where http.server would write: the log is `TinyHub.log`."""

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        self.query, path = parse_qs(parts.query), unquote(parts.path)
        line = f"{self.command} {path}"
        self.hub.log.append(line)
        self._unread = int(self.headers.get("Content-Length") or 0)
        if self.is_storage and self.headers.get("Authorization"):
            self.hub.storage_saw_token = True
        try:
            self._fault(line)
            for pattern, method in _STORAGE_ROUTES if self.is_storage else _ROUTES:
                if found := re.fullmatch(pattern, line):
                    method(self, **found.groupdict())
                    return
            raise RefusedError(404, f"no such route: {line}", "EntryNotFound" if "/resolve/" in path else "")
        except RefusedError as refusal:
            self._send(refusal.status, {"error": str(refusal)}, {"X-Error-Code": refusal.code} if refusal.code else {})

    do_GET = do_HEAD = do_POST = do_PUT = _answer  # noqa: N815

    def _fault(self, line: str) -> None:
        fault = next((fault for pattern, fault in self.hub.faults.items() if re.fullmatch(pattern, line)), None)
        if isinstance(fault, int):
            raise RefusedError(fault, "storage limit reached" if fault == 507 else "a fault that a test asked for")
        if fault is None:
            return
        self.rfile.read(min(self._unread, 1000))  # in the middle of what is being sent
        if fault == "hang":
            self.hub.held.set()
            self.hub.released.wait()
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True
        raise ConnectionAbortedError

    def handle(self) -> None:
        try:
            super().handle()
        except (ConnectionError, BrokenPipeError):  # a client that was killed, or a fault above
            self.close_connection = True

    def _body(self) -> bytes:
        length, self._unread = self._unread, 0
        if self.headers.get("Transfer-Encoding") == "chunked":
            return b"".join(iter(self._chunk, b""))
        content = self.rfile.read(length)
        if len(content) < length:
            raise ConnectionAbortedError
        return content

    def _chunk(self) -> bytes:
        size = int(self.rfile.readline(), 16)
        content = self.rfile.read(size)
        self.rfile.readline()
        return content

    def _json(self) -> Any:
        return json.loads(self._body())

    def _send(self, status: int, answer: Any, headers: dict[str, str] | None = None) -> None:
        if self._unread:
            self._body()  # or it would be taken for the next request
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(content))} | (headers or {})).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _user(self, owner: str | None = None) -> str:
        """Who asks; with `owner`, only if they may write there."""
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        user = self.hub.users.get(token)
        if user is None:
            raise RefusedError(401, "Invalid credentials in Authorization header")
        if owner is not None and user != owner:
            raise RefusedError(403, "you don't have write access")
        return user

    def _repo(self, kind: str, name: str) -> dict[str, Any]:
        repo = self.hub.load(_KINDS[kind], name)
        if repo["private"] and self._user().split(":")[0] != name.split("/")[0]:
            raise RefusedError(404, "Repository not found", "RepoNotFound")
        return repo

    def whoami(self) -> None:
        self._send(200, {"type": "user", "name": self._user().split(":")[0], "auth": {}})

    def validate_yaml(self) -> None:
        self._body()
        self._send(200, {"errors": [], "warnings": []})

    def create_repo(self) -> None:
        wish = self._json()
        owner = wish.get("organization") or self._user()
        kind, name = wish.get("type", "model"), f"{owner}/{wish['name']}"
        prefix = "" if kind == "model" else f"{kind}s/"
        with self.hub.lock:
            # A dataset keeps its name to itself, as on a Hub where types share names; the public one keeps them apart.
            if any(self.hub.path(held, name).is_file() for held in {kind, "dataset"}):
                self._send(409, {"error": "You already created this repo", "url": f"{self.hub.url}/{prefix}{name}"})
                return
            self._user(owner)
            self.hub.create(kind, name, wish.get("visibility") == "private", wish.get("sdk"))
        self._send(200, {"url": f"{self.hub.url}/{prefix}{name}", "name": name})

    def info(self, kind: str, name: str, revision: str | None = None) -> None:
        repo = self._repo(kind, name)
        commit = revision_of(repo, revision or "main")
        siblings = [{"rfilename": path} for path in commit["tree"]]
        answer = {"id": name, "sha": commit["oid"], "private": repo["private"], "siblings": siblings, "tags": []}
        self._send(200, answer | ({"sdk": repo["sdk"]} if repo["sdk"] else {"pipeline_tag": "image-classification"}))

    def tree(self, kind: str, name: str, revision: str, under: str | None = None) -> None:
        tree = revision_of(self._repo(kind, name), revision)["tree"]
        start = f"{under}/" if under else ""
        inside = {path.removeprefix(start): entry for path, entry in tree.items() if path.startswith(start)}
        is_deep = self.query.get("recursive", ["false"])[0].lower() == "true"
        entries = [listed(start + path, entry) for path, entry in inside.items() if is_deep or "/" not in path]
        for folder in sorted({path.split("/")[0] for path in inside if "/" in path}):
            entries.append({"type": "directory", "path": start + folder, "oid": "0" * 40, "size": 0})
        if under and not entries:
            raise RefusedError(404, "no such folder", "EntryNotFound")
        self._send(200, entries)

    def paths_info(self, kind: str, name: str, revision: str) -> None:
        wanted = parse_qs(self._body().decode())["paths"]
        tree = revision_of(self._repo(kind, name), revision)["tree"]
        folders = {path for path in wanted if any(name.startswith(f"{path}/") for name in tree)}
        found = [listed(path, tree[path]) for path in wanted if path in tree]
        self._send(200, found + [{"type": "directory", "path": path, "oid": "0" * 40} for path in sorted(folders)])

    def preupload(self, kind: str, name: str, revision: str) -> None:
        self._user(name.split("/")[0])
        files, tree = self._json()["files"], revision_of(self._repo(kind, name), revision)["tree"]
        answer = []
        for path in (file["path"] for file in files):
            is_large, known = path.endswith(LARGE), tree.get(path)
            oid = {"oid": known["sha256" if is_large else "oid"]} if known else {}
            answer.append({"path": path, "uploadMode": "lfs" if is_large else "regular", "shouldIgnore": False} | oid)
        self._send(200, {"files": answer})

    def batch(self, kind: str | None, name: str) -> None:
        self._user(name.split("/")[0])
        self._repo(kind or "models", name)
        answer = []
        for thing in self._json()["objects"]:
            upload = {"href": f"{self.hub.storage_url}/lfs/{thing['oid']}"}
            verify = {"href": f"{self.hub.url}/api/lfs-verify"}
            is_there = self.hub.object_path(thing["oid"]).is_file()
            answer.append(thing | ({} if is_there else {"actions": {"upload": upload, "verify": verify}}))
        self._send(200, {"transfer": "basic", "objects": answer})

    def put_object(self, oid: str) -> None:
        content = self._body()
        if hashlib.sha256(content).hexdigest() != oid:
            raise RefusedError(400, "the content is not what its name says")
        self.hub.object_path(oid).write_bytes(content)
        self._send(200, b"", {"ETag": f'"{oid}"'})

    def get_object(self, oid: str) -> None:
        if not self.hub.object_path(oid).is_file():
            raise RefusedError(404, "no such object")
        content = self.hub.object_path(oid).read_bytes()
        if found := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or ""):  # as a stream reads
            first, last = int(found[1]), min(int(found[2]), len(content) - 1)
            self.hub.bytes_read += last + 1 - first
            self._send(206, content[first : last + 1], {"Content-Range": f"bytes {first}-{last}/{len(content)}"})
            return
        self.hub.bytes_read += len(content)
        self._send(200, content)

    def verify(self) -> None:
        thing = self._json()
        path = self.hub.object_path(thing["oid"])
        if not path.is_file() or path.stat().st_size != thing["size"]:
            raise RefusedError(404, "not uploaded")
        self._send(200, {})

    def commit(self, kind: str, name: str, revision: str) -> None:
        self._user(name.split("/")[0])
        header, *changes = (json.loads(line) for line in self._body().splitlines())
        with self.hub.lock:
            repo = self._repo(kind, name)
            newest = revision_of(repo, revision)
            if header["value"].get("parentCommit") not in (None, newest["oid"]):
                raise RefusedError(412, "A commit has happened since")
            tree = {path: entry for path, entry in newest["tree"].items()}
            for change in changes:
                self._apply(tree, change["key"], change["value"])
            oid = self.hub.commit(repo, tree, header["value"]["summary"])
        prefix = "" if kind == "models" else f"{kind}/"
        self._send(200, {"commitUrl": f"{self.hub.url}/{prefix}{name}/commit/{oid}", "commitOid": oid})

    def _apply(self, tree: Tree, key: str, value: dict[str, Any]) -> None:
        if key == "file":
            tree[value["path"]] = self.hub.blob(base64.b64decode(value["content"]))
        elif key == "lfsFile":
            if not self.hub.object_path(value["oid"]).is_file():
                raise RefusedError(400, f"{value['path']} was not uploaded")
            pointer = f"version 1\noid sha256:{value['oid']}\nsize {value['size']}\n"
            oid = hashlib.sha1(pointer.encode()).hexdigest()
            tree[value["path"]] = {"oid": oid, "size": value["size"], "sha256": value["oid"], "lfs": True}
        elif key == "deletedFile":
            del tree[value["path"]]
        else:
            raise RefusedError(400, f"unknown operation {key}")

    def resolve(self, kind: str | None, name: str, revision: str, path: str) -> None:
        commit = revision_of(self._repo(kind or "models", name), revision)
        headers = {"X-Repo-Commit": commit["oid"]}
        if path not in commit["tree"]:
            self._send(404, {"error": "Entry not found"}, headers | {"X-Error-Code": "EntryNotFound"})
            return
        entry = commit["tree"][path]
        if entry["lfs"]:
            headers |= {"X-Linked-ETag": f'"{entry["sha256"]}"', "X-Linked-Size": str(entry["size"])}
            self._send(302, b"", headers | {"Location": f"{self.hub.storage_url}/lfs/{entry['sha256']}"})
            return
        self._send(200, self.hub.object_path(entry["sha256"]).read_bytes(), headers | {"ETag": f'"{entry["oid"]}"'})

    def variables(self, name: str) -> None:
        with self.hub.lock:
            repo = self._repo("spaces", name)
            self._user(name.split("/")[0])
            if self.command == "POST":
                wish = self._json()
                repo["variables"][wish["key"]] = {"key": wish["key"], "value": wish["value"]}
                self.hub.save(repo)
        self._send(200, repo["variables"])


_ROUTES: list[tuple[str, Callable[..., None]]] = [
    (r"GET /api/whoami-v2", _Handler.whoami),
    (r"POST /api/validate-yaml", _Handler.validate_yaml),
    (r"POST /api/repos/create", _Handler.create_repo),
    (r"(?:GET|POST) /api/spaces/(?P<name>[^/]+/[^/]+)/variables", _Handler.variables),
    (rf"GET /api/{_REPO}(?:/revision/(?P<revision>[^/]+))?", _Handler.info),
    (rf"GET /api/{_REPO}/tree/(?P<revision>[^/]+)(?:/(?P<under>.+))?", _Handler.tree),
    (rf"POST /api/{_REPO}/paths-info/(?P<revision>[^/]+)", _Handler.paths_info),
    (rf"POST /api/{_REPO}/preupload/(?P<revision>[^/]+)", _Handler.preupload),
    (rf"POST /api/{_REPO}/commit/(?P<revision>[^/]+)", _Handler.commit),
    (r"POST /api/lfs-verify", _Handler.verify),
    (r"POST /(?:(?P<kind>spaces|datasets)/)?(?P<name>[^/]+/[^/]+)\.git/info/lfs/objects/batch", _Handler.batch),
    (
        r"(?:GET|HEAD) /(?:(?P<kind>spaces|datasets)/)?(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)",
        _Handler.resolve,
    ),
]
_STORAGE_ROUTES: list[tuple[str, Callable[..., None]]] = [
    (r"PUT /lfs/(?P<oid>[0-9a-f]{64})", _Handler.put_object),
    (r"(?:GET|HEAD) /lfs/(?P<oid>[0-9a-f]{64})", _Handler.get_object),
]


@contextmanager
def tiny_hub(folder: Path) -> Iterator[TinyHub]:
    """A running Hub, and its storage on a port of its own, until the block ends."""
    hub = TinyHub(folder)
    (folder / "objects").mkdir(parents=True, exist_ok=True)
    servers = []
    for is_storage in (False, True):
        handler = type("Handler", (_Handler,), {"hub": hub, "is_storage": is_storage})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
    hub.url, hub.storage_url = (f"http://127.0.0.1:{server.server_address[1]}" for server in servers)
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
