from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from brain_mri.inference.classifier import BrainMRIClassifier
from brain_mri.model_folder import INT8_FILE
from brain_mri.phantom.dataset import draw_phantom

_ROOT = Path(__file__).parents[1]
_RUN = """
import { env } from '@huggingface/transformers';
import { loadClassifier } from './brain_mri.mjs';
const [folder, dtype, ...pictures] = process.argv.slice(2);
env.localModelPath = folder;
env.allowRemoteModels = false;
const classify = await loadClassifier('model', { dtype });
const answers = [];
for (const picture of pictures) answers.push(await classify(picture));
console.log(JSON.stringify(answers));
"""


@pytest.fixture(scope="module")
def javascript(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the module of docs/javascript.md, which finds the npm package."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    modules = Path(os.environ.get("TRANSFORMERS_JS", "")) / "node_modules"
    if not (modules / "@huggingface" / "transformers").is_dir():
        pytest.skip("TRANSFORMERS_JS names no folder where `npm install @huggingface/transformers` was run")
    folder = tmp_path_factory.mktemp("javascript")
    page = (_ROOT / "docs" / "javascript.md").read_text(encoding="utf-8")
    (folder / "brain_mri.mjs").write_text(re.findall(r"```js\n(.*?)```", page, re.DOTALL)[0])
    (folder / "run.mjs").write_text(_RUN)
    (folder / "node_modules").symlink_to(modules.resolve())
    return folder


def _node(folder: Path, script: str, *words: str) -> str:
    done = subprocess.run(
        ["node", script, *words], cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_documented_module_gives_in_node_what_python_gives(
    javascript: Path, guided_model: Path, tmp_path: Path
) -> None:
    pictures = []
    for seed, size in enumerate([(64, 64), (96, 96), (300, 200), (512, 512)]):
        pictures.append(str(tmp_path / f"{seed}.png"))
        draw_phantom("glioma", seed, 512, "axial", 0).image.resize(size).save(pictures[-1])
    shutil.copytree(guided_model, tmp_path / "model")
    is_int8 = (guided_model / INT8_FILE).is_file()
    out = _node(javascript, "run.mjs", f"{tmp_path}/", "q8" if is_int8 else "fp32", *pictures)
    answers = json.loads(out.splitlines()[-1])
    classifier = BrainMRIClassifier.from_pretrained(guided_model, precision="int8" if is_int8 else "fp32")
    for picture, answer in zip(pictures, answers, strict=True):
        assert [a["score"] for a in answer] == sorted((a["score"] for a in answer), reverse=True)
        expected = classifier.predict(picture).probabilities
        assert {a["label"]: a["score"] for a in answer} == pytest.approx(expected, abs=1e-4), picture


@pytest.mark.slow
def test_the_documented_resizing_is_pillows_to_the_last_level(javascript: Path, tmp_path: Path) -> None:
    picture = draw_phantom("meningioma", 3, 256, "coronal", 0).image.convert("RGB")
    script = (javascript / "brain_mri.mjs").read_text() + (
        "\nimport { writeFileSync } from 'node:fs';"
        "\nconst [path, width, height] = process.argv.slice(2);"
        "\nconst picture = (await load_image(path)).rgb();"
        "\nwriteFileSync(path + '.raw', resize(picture, Number(width), Number(height)));\n"
    )
    (javascript / "resize.mjs").write_text(script)
    for number, (before, after) in enumerate(
        [((256, 256), (224, 224)), ((100, 250), (224, 96)), ((60, 60), (224, 224))]
    ):
        path = tmp_path / f"{number}.png"
        source = picture.resize(before)
        source.save(path)
        _node(javascript, "resize.mjs", str(path), str(after[0]), str(after[1]))
        expected = source.resize(after, Image.Resampling.BICUBIC).tobytes()
        assert Path(f"{path}.raw").read_bytes() == expected


def test_a_timm_models_folder_has_no_second_preprocessing_that_python_would_take_from_the_hub(
    guided_model: Path,
) -> None:
    assert json.loads((guided_model / "config.json").read_text())["pretrained_cfg"]["interpolation"] == "bicubic"
    assert not (guided_model / "preprocessor_config.json").exists()
