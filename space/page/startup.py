"""What must be settled before gradio is imported: where uploads go, no telemetry, and little memory.

Import gradio from here: `from page.startup import gr`.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import platform
import shutil
import tempfile
from pathlib import Path
from typing import Any

_M_ARENA_MAX = -8  # of glibc's malloc.h

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

if platform.libc_ver()[0] == "glibc":
    # Else each of the server's threads gets an arena of its own and keeps what its largest request took: a quarter of
    # the page's memory under load.
    ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)

# A folder of this process alone, which nobody else may read and which leaves with it.
UPLOADS = Path(tempfile.mkdtemp(prefix="brain-mri-uploads-"))
os.environ["GRADIO_TEMP_DIR"] = str(UPLOADS)
atexit.register(shutil.rmtree, UPLOADS, ignore_errors=True)


import gradio as gr  # noqa: E402


def look() -> gr.themes.Base:
    """Gradio's default theme in blue, dark enough for white text (AA), with fonts of the reader's own system."""
    fonts, mono = ["system-ui", "sans-serif"], ["ui-monospace", "monospace"]
    return gr.themes.Default(primary_hue="blue", font=fonts, font_mono=mono).set(
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_hover_dark="*primary_800",
    )


def html(content: str, **options: Any) -> gr.HTML:
    """A piece of the page, styled by `style.css` alone."""
    return gr.HTML(content, apply_default_css=False, js_on_load=None, **options)


__all__ = ["UPLOADS", "gr", "html", "look"]
