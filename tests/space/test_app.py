from __future__ import annotations

import ast
import asyncio
import json
import re
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("gradio", reason="gradio is not installed: pip install -r space/requirements.txt")
pytest.importorskip("mcp", reason="mcp is not installed: pip install -r space/requirements.txt")

from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from support.space_server import SPACE, Server, grey, photograph, serving
from support.space_site import call

from benchmarks.stress.space_load import EXAMPLES, ask
from brain_mri.inference.classifier import BrainMRIClassifier
from brain_mri.labels import LABELS

sys.path.insert(0, str(SPACE))

from page import service
from page.texts import languages, texts

_KEEP = 4  # seconds; short, so that a test can wait for an upload's end
_NOTICE = "Research and teaching, not a diagnosis."


def _file(image: Image.Image, folder: Path, name: str = "slice.png") -> Path:
    image.save(folder / name)
    return folder / name


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (SPACE / "README.md").read_text(), re.DOTALL)


def test_python_curl_and_an_assistant_get_the_classifiers_answer_by_the_readmes_own_examples(
    server: Server, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _file(grey(0.375), tmp_path)
    monkeypatch.chdir(tmp_path)
    expected = BrainMRIClassifier.from_pretrained(model).predict(tmp_path / "slice.png").as_dict()
    assert expected["label"] == "meningioma" and expected["verdict"] == "answer"
    by_python, by_mcp = (code.replace("http://127.0.0.1:7860", server.url) for code in _blocks("python"))
    (by_curl,) = (code.replace("http://127.0.0.1:7860", server.url) for code in _blocks("bash"))

    lines = ast.parse(by_python)
    assert isinstance(lines.body[-1], ast.Expr)
    lines.body[-1] = ast.Assign([ast.Name("found", ast.Store())], lines.body[-1].value)
    names: dict[str, Any] = {}
    exec(compile(ast.fix_missing_locations(lines), "README", "exec"), names)
    printed = subprocess.run(["bash", "-c", by_curl], capture_output=True, text=True, check=True).stdout
    capsys.readouterr()
    exec(compile(by_mcp, "README", "exec"), {})
    answers = [names["found"], json.loads(printed.split("data: ")[1])[0], json.loads(capsys.readouterr().out)]
    for answer in answers:
        same = {key: value for key, value in expected.items() if key not in ("milliseconds", "name")}
        assert {key: answer[key] for key in same} == same
        assert answer["notice"] == _NOTICE and answer["reason"] is None


def test_a_photograph_gets_no_class_and_no_probabilities(client: Client, tmp_path: Path) -> None:
    answer = client.predict(handle_file(_file(photograph(), tmp_path)), api_name="/classify")
    assert answer["verdict"] == "refused" and answer["reason"] == "not_brain_mri"
    assert "does not look like a brain MRI" in answer["explanation"]
    assert answer["label"] is answer["score"] is answer["probabilities"] is answer["prediction_set"] is None
    assert not any(label in json.dumps(answer) for label in LABELS)


def test_between_two_classes_none_is_named(client: Client, tmp_path: Path) -> None:
    answer = client.predict(handle_file(_file(grey(0.25), tmp_path)), api_name="/classify")
    assert answer["verdict"] == "unsure" and answer["reason"] == "below_threshold"
    assert answer["label"] is answer["score"] is answer["probabilities"] is answer["prediction_set"] is None
    assert not any(label in json.dumps(answer) for label in LABELS)


def test_several_pictures_of_one_name_and_a_zip_are_volumes(client: Client, model: Path, tmp_path: Path) -> None:
    shades, paths = (0.375, 0.375, 0.875), []
    for i, shade in enumerate(shades):
        (tmp_path / str(i)).mkdir()
        paths.append(_file(grey(shade), tmp_path / str(i)))
    with zipfile.ZipFile(tmp_path / "slices.zip", "w") as archive:
        for i, path in enumerate(paths):
            archive.write(path, f"{i}.png")
    for given in (paths, [tmp_path / "slices.zip"]):
        answer = client.predict([handle_file(path) for path in given], api_name="/classify_volume")
        assert [one["label"] for one in answer["slices"]] == ["meningioma", "meningioma", "pituitary"]
        assert answer["verdict"] == "unsure" and answer["label"] is answer["probabilities"] is None
        assert answer["slices_counted"] == 3 and answer["notice"] == _NOTICE


@pytest.mark.parametrize(
    "content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n broken", b"PK\x03\x04 broken", b"%PDF-1.7"]
)
def test_what_cannot_be_read_gets_a_sentence(client: Client, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "slice.png").write_bytes(content)
    with pytest.raises(AppError) as caught:
        client.predict(handle_file(tmp_path / "slice.png"), api_name="/classify")
    assert re.fullmatch(r"slice.png: [^\n]+\.", str(caught.value)) and "Traceback" not in str(caught.value)


_META = {"meta": {"_type": "gradio.FileData"}}


def test_only_the_documented_endpoints_are_public_and_typed(server: Server, client: Client) -> None:
    public = httpx.get(f"{server.url}/gradio_api/info").json()["named_endpoints"]
    assert set(public) == {"/classify", "/classify_volume", "/about_model"}
    assert set(public["/classify"]["returns"][0]["type"]["properties"]) >= {
        "label",
        "reason",
        "prediction_set",
        "notice",
    }
    about_model = client.predict(api_name="/about_model")
    assert about_model["labels"] == list(LABELS) and about_model["figures"] == {}, (
        "nothing was measured, so nothing is said"
    )


@pytest.mark.slow
def test_an_upload_is_gone_after_its_time_even_one_broken_off(model: Path, tmp_path: Path) -> None:
    path = _file(grey(0.5), tmp_path, "private.png")
    with serving(model, tmp_path / "space", UPLOAD_SECONDS=str(_KEEP)) as server:
        with path.open("rb") as file:
            sent = httpx.post(f"{server.url}/gradio_api/upload", files={"files": file}).json()[0]
        assert Path(sent).is_file() and Path(sent).is_relative_to(server.uploads)
        assert server.uploads.stat().st_mode & 0o077 == 0, "nobody else on the machine may look"
        (server.uploads / "tmp_broken_off").write_bytes(b"half of a file, of which gradio has no record")
        deadline = time.monotonic() + 60
        while any(one.is_file() for one in server.uploads.rglob("*")):
            assert time.monotonic() < deadline, list(server.uploads.rglob("*"))
            time.sleep(0.5)
        said = call(server.url, "classify", {"path": sent, "orig_name": "private.png"} | _META)
        assert "private.png: no longer here" in said and "minute" in said
    assert not server.uploads.exists(), "the folder leaves with the program"


def test_names_in_headers_are_neither_shown_nor_logged(server: Server, client: Client, tmp_path: Path) -> None:
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = MRImageStorage, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = generate_uid()
    scan = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    scan.SOPClassUID, scan.SOPInstanceUID, scan.Modality = MRImageStorage, meta.MediaStorageSOPInstanceUID, "MR"
    scan.PatientName, scan.PatientID, scan.PatientBirthDate = "ZEBRAFINCH^JANE", "ZF-4711", "19700101"
    scan.Rows = scan.Columns = 64
    scan.SamplesPerPixel, scan.PhotometricInterpretation = 1, "MONOCHROME2"
    scan.BitsAllocated = scan.BitsStored = 8
    scan.HighBit, scan.PixelRepresentation = 7, 0
    scan.PixelData = np.asarray(grey(0.6).convert("L")).tobytes()
    scan.save_as(tmp_path / "scan.dcm", enforce_file_format=True)
    exif = Image.Exif()
    exif[0x013B] = exif[0x010E] = "ZEBRAFINCH, JANE"
    grey(0.6).save(tmp_path / "scan.jpg", exif=exif)
    for name in ("scan.dcm", "scan.jpg"):
        answer = client.predict(handle_file(tmp_path / name), api_name="/classify")
        assert answer["name"] == name and "ZEBRAFINCH" not in json.dumps(answer)
    (tmp_path / "cut.dcm").write_bytes((tmp_path / "scan.dcm").read_bytes()[:-2000])
    with pytest.raises(AppError) as caught:
        client.predict(handle_file(tmp_path / "cut.dcm"), api_name="/classify")
    assert "ZEBRAFINCH" not in str(caught.value)
    assert not re.search("ZEBRAFINCH|ZF-4711|scan", server.log.read_text())


def test_the_page_starts_without_torch_in_little_memory(server: Server, client: Client, tmp_path: Path) -> None:
    client.predict(handle_file(_file(grey(0.4), tmp_path)), api_name="/classify")
    assert "torch" not in Path(f"/proc/{server.pid}/maps").read_text()
    assert server.resident_megabytes() < 400


@pytest.mark.slow
def test_what_a_visitor_was_answered_is_not_kept_in_memory(server: Server) -> None:
    async def visitors(count: int) -> float:
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
            for _ in range(count):
                await ask(http, EXAMPLES[0])
        return server.resident_megabytes()

    before = asyncio.run(visitors(20))
    assert asyncio.run(visitors(60)) - before < 30  # an answer, its pictures included, takes about 1 MB


def test_without_a_model_it_says_what_to_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MODEL_ID", raising=False)
    monkeypatch.setattr(service, "_ROOT", tmp_path)
    with pytest.raises(service.ConfigError, match="set MODEL_ID to a model folder"):
        service.find_model()
    (tmp_path / "release" / "onnx").mkdir(parents=True)
    assert service.find_model() == str(tmp_path / "release")


def test_every_language_says_everything() -> None:
    assert languages()[0] == "en" and len(languages()) > 1
    english = _gaps(json.loads((SPACE / "texts" / "en.json").read_text()))
    for language in languages()[1:]:
        other = _gaps(json.loads((SPACE / "texts" / f"{language}.json").read_text()))
        assert other == english, "the same texts with the same gaps to fill in"


def _gaps(texts_: Any, key: str = "") -> dict[str, set[str]]:
    if isinstance(texts_, str):
        return {key: set(re.findall(r"{(\w+)}", texts_))}
    items = enumerate(texts_) if isinstance(texts_, list) else texts_.items()
    return {name: gaps for k, value in items for name, gaps in _gaps(value, f"{key}/{k}").items()}


def test_certainty_is_never_rounded_up_and_decimals_follow_the_language() -> None:
    assert texts().percent(0.99999) == "> 99.9%" and texts().percent(1.0) == "100.0%"
    assert texts("de").percent(0.123) == "12,3\u00a0%"


def test_the_space_is_what_it_says() -> None:
    front = (SPACE / "README.md").read_text().split("---")[1]
    wanted = (SPACE / "requirements.txt").read_text()
    pinned = re.search(r"gradio\[mcp\]==([\d.]+)", wanted)
    assert pinned and f"sdk_version: {pinned[1]}" in front and "sdk: gradio" in front and "license:" in front
    assert not re.search(r"^(torch|transformers|timm|scipy|matplotlib)", wanted, re.MULTILINE)
    assert (SPACE / "app.py").read_text().count("\n") < 150
