from __future__ import annotations

import time
from pathlib import Path

import pytest

from brain_mri.errors import ConfigError
from brain_mri.utils.recipe_file import find_recipe, list_recipes, read_recipe, recipes

_ROOT = Path(__file__).parents[2]
_BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))


def _written(folder: Path, content: str | bytes) -> Path:
    path = folder / "recipe.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("seed: 1\nlr: 2\nseed: 3\n", "'seed' is given twice"),
        ("model_args:\n  a: 1\n  a: 2\n", "'a' is given twice"),
        ("run_name: Gr\xfc\xdfe\n".encode("latin-1"), "UTF-8"),
        ("seed: 3\n".encode("utf-16"), "UTF-8"),
        ("model_args: " + "[" * 1000 + "]" * 1000, "levels"),
        ("".join(" " * n + "a:\n" for n in range(1000)), "levels"),
        (_BOMB, "alias"),
        ("model_args: !!python/object/apply:os.getcwd []\n", "tag"),
        ("seed: !!int x\n", "tag"),
        ("- a\n- b\n", "key: value"),
        ("just words\n", "key: value"),
        ("? [1, 2]\n: 3\n", "no word"),
        ("model_args: {a: " + "9" * 6000 + "}\n", "can't be read|can be read"),
        ("model_args: {a: 2024-13-45}\n", "can be read"),
        ("seed: 1\n---\nseed: 2\n", "single document"),
        (b"seed: 1\0\n", "special characters"),
        ("# " + "x" * 2**21, "larger"),
    ],
)
def test_what_is_no_recipe_is_refused_in_one_sentence_at_once(content: str | bytes, said: str, tmp_path: Path) -> None:
    started = time.process_time()
    with pytest.raises(ConfigError, match=said) as caught:
        read_recipe(_written(tmp_path, content))
    assert "\n" not in str(caught.value) and "recipe.yaml" in str(caught.value)
    assert time.process_time() - started < 2


def test_a_value_is_the_word_that_stands_there(tmp_path: Path) -> None:
    path = _written(tmp_path, "eval_strategy: no\ndata_revision: 1.10\nlearning_rate: 5e-5\nrun_name:\nseed: null\n")
    assert read_recipe(path) == {
        "eval_strategy": "no", "data_revision": "1.10", "learning_rate": "5e-5", "run_name": None, "seed": None
    }  # fmt: skip


def test_values_in_a_mapping_have_types(tmp_path: Path) -> None:
    path = _written(tmp_path, "lr_scheduler_kwargs: {min_lr: 1e-6, patience: 2, name: x, layers: [1, 2]}\n")
    assert read_recipe(path)["lr_scheduler_kwargs"] == {"min_lr": 1e-6, "patience": 2, "name": "x", "layers": [1, 2]}


def test_an_empty_recipe_says_nothing(tmp_path: Path) -> None:
    assert read_recipe(_written(tmp_path, "# nothing\n")) == {}


def test_a_recipe_is_found_by_name_from_anywhere_unless_a_file_is_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_recipe("efficientnet").samefile(_ROOT / "configs" / "efficientnet.yaml")
    (tmp_path / "efficientnet").write_text("seed: 1\n")
    assert find_recipe("efficientnet").samefile(tmp_path / "efficientnet")


def test_a_misspelt_recipe_names_the_nearest_and_all() -> None:
    with pytest.raises(ConfigError, match=r"vgg61: no such configuration file; did you mean vgg16\?.*resnet50"):
        find_recipe("vgg61")


def test_the_list_of_recipes_says_what_each_is() -> None:
    lines = list_recipes().splitlines()[1:]
    assert len(lines) == len(recipes()) == len(list((_ROOT / "configs").glob("*.yaml")))
    assert all(len(line) <= 120 and line.endswith(".") for line in lines), lines
