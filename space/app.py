"""The public page: what the classifier says of a brain-MRI slice, and why. Research and teaching, not a diagnosis.

python space/app.py                                  serves release/ at http://127.0.0.1:7860
MODEL_ID=USER/NAME GRADIO_SERVER_PORT=7861 python space/app.py

MODEL_ID names a model folder or an id on the Hub; UPLOAD_SECONDS how long an upload of a program is kept (180).
Interface only: what is said is in `texts/`, how it looks in `style.css` and `page/templates/`; `brain_mri` judges.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import signal
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
if importlib.util.find_spec("brain_mri") is None:  # in a Space it lies beside this file, in a clone one folder up
    sys.path.append(str(HERE.parent))

from page import examples  # noqa: E402
from page.api import Endpoint, endpoints  # noqa: E402
from page.connections import serve  # noqa: E402
from page.service import Service, find_model  # noqa: E402
from page.site import site  # noqa: E402
from page.startup import UPLOADS, gr, html, look  # noqa: E402
from page.texts import FIRST, Texts, languages, texts  # noqa: E402
from page.uploads import MAX_UPLOAD_MB  # noqa: E402
from page.views import examples_html, render  # noqa: E402

from brain_mri.errors import run_command  # noqa: E402

KEEP_SECONDS = 180.0


def build(service: Service, declared: list[Endpoint]) -> gr.Blocks:
    """The page in every language, and the endpoints as programs see them."""
    first, *others = languages()
    demo = gr.Blocks(title=texts(first)("title"), analytics_enabled=False)
    with demo:
        _page(service, texts(first))
        for endpoint in declared:
            # documented by gradio, and forgotten in its __all__
            gr.api(endpoint.declared)  # type: ignore[attr-defined]
    for code in others:
        with demo.route(texts(code)["language"], f"/{code}"):
            _page(service, texts(code))
    return demo


def _page(service: Service, t: Texts) -> None:
    links = [(code, texts(code)["language"], f"./?{code}" if code == FIRST else f"./{code}") for code in languages()]
    html(render("header", t, languages=links))
    with gr.Tabs(overflow_behavior="wrap"):
        with gr.Tab(t("tab_classify")):
            _classify_tab(service, t)
        if cases := examples.cases(t):
            with gr.Tab(t("tab_quiz")):
                labels = [(label, t.label(label)) for label in service.classifier.label_names]
                html(render("quiz", t, cases=cases, labels=labels))
        with gr.Tab(t("tab_about")) as about_tab:
            about = html("")
        with gr.Tab(t("tab_programs")):
            html(render("programs", t))
    about_tab.select(None, None, about, js="() => brainMRI.about()", api_visibility="private")


def _classify_tab(service: Service, t: Texts) -> None:
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            html(render("upload", t, size=MAX_UPLOAD_MB, minutes=service.minutes))
            html(render("notice", t))
            button = gr.Button(t("button"), variant="primary", elem_classes="bm-classify")
            html(render("running", t))
            html(examples_html(t))
        with gr.Column(scale=3, min_width=300):
            answer = html(render("waiting", t), elem_classes="bm-answer")
    begun = button.click(None, None, answer, js="() => brainMRI.begin()", api_visibility="private")
    begun.then(None, None, answer, js="() => brainMRI.classify()", api_visibility="private")


def main() -> None:
    """Serve until interrupted."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that the uploads' folder is removed on the way out
    keep = float(os.environ.get("UPLOAD_SECONDS", KEEP_SECONDS))
    service = Service(find_model(), UPLOADS, keep)
    service.start_sweeping()
    scripts = [(HERE / "page" / name).read_text(encoding="utf-8") for name in ("page.js", "quiz.js")]
    script = "\n".join(scripts).replace("LANGUAGES", json.dumps(languages()))
    unscripted = "".join(f'<p lang="{code}">{texts(code)("noscript")}</p>' for code in languages())
    declared = endpoints(service)
    app = site(
        service,
        build(service, declared),
        declared,
        css_paths=[HERE / "style.css", HERE / "viewer" / "viewer.css"],
        head=f'<script>{script}</script><meta name="description" content="{texts()("notice")}">'
        f"<noscript>{unscripted}</noscript>",
        theme=look(),
    )
    serve(app, lambda address: print(f"* Running on local URL:  {address}", flush=True))


if __name__ == "__main__":
    run_command(main)
