"""Serve the static page for one model folder, with the headers that let it use several threads.

python space_static/serve.py release      # http://127.0.0.1:7861
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from brain_mri.errors import ConfigError, run_command
from brain_mri.hub.static_space import stage_static_space


class Handler(SimpleHTTPRequestHandler):
    """Files of a folder, as a static Space with its `custom_headers` sends them."""

    extensions_map = SimpleHTTPRequestHandler.extensions_map | {".mjs": "text/javascript", ".gz": "application/gzip"}

    def end_headers(self) -> None:
        """Add what makes the page isolated from others, without which browsers give it one thread."""
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing of each request."""


def listening(folder: Path, port: int) -> ThreadingHTTPServer:
    """A server of the folder at 127.0.0.1; port 0 takes a free one.

    Raises:
        ConfigError: the port is taken.
    """
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), partial(Handler, directory=str(folder)))
    except OSError as error:
        raise ConfigError(f"port {port} can't be opened ({error.strerror}): give another with --port.") from error


def main() -> None:
    """Stage the page in a temporary folder and serve it until the process is stopped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="the model folder, such as release")
    parser.add_argument("--port", type=int, default=7861)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="brain-mri-static-") as scratch:
        stage_static_space(Path(scratch) / "page", options.model)
        server = listening(Path(scratch) / "page", options.port)
        print(f"* Running on local URL:  http://127.0.0.1:{options.port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    run_command(main)
