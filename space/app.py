"""The public page: what the classifier says of a brain-MRI slice, and why. Research and teaching, not a diagnosis.

python space/app.py                                  serves release/ at http://127.0.0.1:7860
MODEL_ID=USER/NAME GRADIO_SERVER_PORT=7861 python space/app.py

MODEL_ID names a model folder or an id on the Hub; UPLOAD_SECONDS how long an upload is kept (180).
Interface only: what is said is in `texts/`, how it looks in `style.css` and `page/templates/`; `brain_mri` judges.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
if importlib.util.find_spec("brain_mri") is None:  # in a Space it lies beside this file, in a clone one folder up
    sys.path.append(str(HERE.parent))

from page import refusals  # noqa: E402
from page.about import about_html  # noqa: E402
from page.api import endpoints  # noqa: E402
from page.service import Service, find_model  # noqa: E402
from page.startup import UPLOADS, gr, html, look  # noqa: E402
from page.texts import FIRST, Texts, languages, texts  # noqa: E402
from page.views import answer_html, error_html, examples_html, message_html, render  # noqa: E402

from brain_mri.errors import BrainMRIError, run_command  # noqa: E402

KEEP_SECONDS = 180.0
MAX_UPLOAD_MB = 128
AT_ONCE = 2  # answers in the making, one per core
WAITING = 100  # further ones are asked to come back


def build(service: Service) -> gr.Blocks:
    """The page in every language, and the endpoints for programs."""
    first, *others = languages()
    demo = gr.Blocks(
        title=texts(first)("title"),
        analytics_enabled=False,
        delete_cache=(max(1, int(service.keep / 4)), int(service.keep)),
    )
    with demo:
        _page(service, texts(first))
        for endpoint in endpoints(service):
            # documented by gradio, and forgotten in its __all__
            gr.api(endpoint, concurrency_limit=AT_ONCE, concurrency_id="judging")  # type: ignore[attr-defined]
    for code in others:
        with demo.route(texts(code)["language"], f"/{code}"):
            _page(service, texts(code))
    demo.queue(max_size=WAITING, default_concurrency_limit=AT_ONCE)
    return demo


def _page(service: Service, t: Texts) -> None:
    links = [(code, texts(code)["language"], "./" if code == FIRST else f"./{code}") for code in languages()]
    html(render("header", t, languages=links))
    with gr.Tabs():
        with gr.Tab(t("tab_classify")):
            _classify_tab(service, t)
        with gr.Tab(t("tab_about")) as about_tab:
            about = html("")
        with gr.Tab(t("tab_programs")):
            html(render("programs", t))
    about_tab.select(lambda: about_html(service, t), outputs=about, api_visibility="private", queue=False)


def _classify_tab(service: Service, t: Texts) -> None:
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            html(render("upload", t, size=MAX_UPLOAD_MB, minutes=service.minutes))
            html(render("notice", t))
            button = gr.Button(t("button"), variant="primary", elem_classes="bm-classify")
            html(examples_html(t))
        with gr.Column(scale=3, min_width=300):
            answer = html(render("waiting", t), elem_classes="bm-answer")
    uploads = gr.JSON(visible=False)  # filled by the browser when the button is pressed

    def show_answer(given: Any, progress: gr.Progress = gr.Progress()) -> str:  # noqa: B008
        if isinstance(given, dict):  # the browser says why it could not send the files
            return message_html(str(given.get("problem")), t)
        try:
            found = service.classify(given, lambda n, of: progress((n, of), t("progress", done=n, all=of)))
        except BrainMRIError as error:
            return error_html(service, error, t)
        return answer_html(service, found, t)

    button.click(
        show_answer,
        uploads,
        answer,
        js="() => brainMRI.send()",
        preprocess=False,
        api_visibility="private",
        concurrency_limit=AT_ONCE,
        concurrency_id="judging",
    )


def main() -> None:
    """Serve until interrupted."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that the uploads' folder is removed on the way out
    keep = float(os.environ.get("UPLOAD_SECONDS", KEEP_SECONDS))
    service = Service(find_model(), UPLOADS, keep)
    service.start_sweeping()
    script = (HERE / "page" / "page.js").read_text(encoding="utf-8").replace("LANGUAGES", json.dumps(languages()))
    refusals.refuse_quietly()
    build(service).launch(
        css_paths=[HERE / "style.css"],
        head=f'<script>{script}</script><meta name="description" content="{texts()("notice")}">',
        theme=look(),
        max_file_size=f"{MAX_UPLOAD_MB}mb",
        show_error=True,
        footer_links=["api"],
        enable_monitoring=False,
        run_history=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=True,
        app_kwargs=refusals.APP,
        state_session_capacity=1,  # gradio keeps each session's last answer, its picture too; nothing here needs it
    )


if __name__ == "__main__":
    run_command(main)
