"""What may be said is decided in one place: Python, text, JSON, page, API and MCP say the same of the same files."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gradio", reason="gradio is not installed: pip install -r space/requirements.txt")
pytest.importorskip("mcp", reason="mcp is not installed: pip install -r space/requirements.txt")

from gradio_client import Client, handle_file
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from pydicom.data import get_testdata_file
from support.space_server import SPACE, grey, photograph, serving, write_model
from support.space_site import finished

from brain_mri.inference.__main__ import main
from brain_mri.inference.classifier import BrainMRIClassifier
from brain_mri.inference.predictions import REASONS
from brain_mri.labels import LABELS
from brain_mri.model_folder import GUARD

sys.path.insert(0, str(SPACE))

from page import service, views
from page.texts import texts

Verdict = tuple[str, str | None, str | None]  # verdict, reason, label


def _of(record: dict[str, Any]) -> Verdict:
    return record["verdict"], record["reason"], record["label"]


async def _by_mcp(url: str, path: Path) -> dict[str, Any]:
    """An assistant gives one file at a time."""
    address = f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
    server = streamable_http_client(f"{url}/gradio_api/mcp/")
    async with server as (read, write, _), ClientSession(read, write) as session:
        await session.initialize()
        said = (await session.call_tool("classify", {"file": address})).content[0].text
    found: dict[str, Any] = json.loads(said)
    return found


def _page(model: Path, files: list[Path], uploads: Path) -> str:
    judge = service.Service(str(model), uploads, 180)
    copies = [Path(shutil.copy(path, uploads / path.name)) for path in files]
    return views.answer_html(judge, finished(judge.judging([{"path": str(path)} for path in copies])), texts())


@pytest.mark.slow
def test_every_door_gives_the_same_verdict_and_names_no_class_where_none_may_be_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = write_model(tmp_path / "whole")
    bare = Path(shutil.copytree(whole, tmp_path / "bare"))
    (bare / GUARD).unlink()
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    photograph().save(pictures / "a.png")
    photograph().rotate(90).save(pictures / "b.png")
    grey(0.375).save(tmp_path / "slice.png")
    ct = Path(shutil.copy(str(get_testdata_file("CT_small.dcm")), tmp_path / "ct.dcm"))
    cases: list[tuple[Path, Path, Verdict]] = [
        (whole, pictures, ("refused", "no_slice_accepted", None)),
        (whole, ct, ("refused", "not_mri", None)),
        (whole, tmp_path / "slice.png", ("answer", None, "meningioma")),
        (bare, tmp_path / "slice.png", ("refused", "no_guard", None)),
    ]
    for model in (whole, bare):
        with serving(model, tmp_path / f"page of {model.name}") as server:
            client = Client(server.url, verbose=False)
            for source, expected in [(s, e) for m, s, e in cases if m == model]:
                files = sorted(source.iterdir()) if source.is_dir() else [source]
                given = [handle_file(path) for path in files]
                found = BrainMRIClassifier.from_pretrained(model).classify(source)
                main([str(source), "--model", str(model), "--json"])
                by_json = json.loads(capsys.readouterr().out)
                by_api = client.predict(
                    given if source.is_dir() else given[0],
                    api_name="/classify_volume" if source.is_dir() else "/classify",
                )
                by_mcp = asyncio.run(_by_mcp(server.url, files[0]))
                for record in (found.as_dict(), by_json, by_api, *([] if source.is_dir() else [by_mcp])):
                    assert _of(record) == expected, (source, record)
                main([str(source), "--model", str(model)])
                text = capsys.readouterr().out
                (uploads := tmp_path / f"uploads {model.name} {source.name}").mkdir()
                _check_words(text, _page(model, files, uploads), [by_json, by_api, by_mcp], expected)


def _check_words(text: str, html: str, records: list[dict[str, Any]], expected: Verdict) -> None:
    _, reason, label = expected
    t = texts()
    if label is not None:
        assert label in text and t.label(label) in html
        return
    assert REASONS[str(reason)] in text and t["reasons"][reason].split("{")[0] in html
    everything = text + json.dumps(records)
    assert not [name for name in LABELS if name in everything or t.label(name) in html]
