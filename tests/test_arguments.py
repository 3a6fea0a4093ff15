from __future__ import annotations

from pathlib import Path

import pytest
from transformers import TrainingArguments

from brain_mri.arguments import DataArguments, EvaluationArguments, ModelArguments, RecipeArguments
from brain_mri.errors import ConfigError
from brain_mri.utils.argument_parser import parse

_ALL = [DataArguments, ModelArguments, RecipeArguments, TrainingArguments]
_RECIPES = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


def test_the_command_line_wins_over_the_file(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("learning_rate: 5e-5\nmodel: timm/x\nchannels_last: false\noutput_dir: o\n")
    _, model, recipe, training = parse(_ALL, [str(config), "--model", "timm/y"])
    assert training.learning_rate == 5e-5, "5e-5 is a string to PyYAML"
    assert model.model == "timm/y"
    assert recipe.channels_last is False


@pytest.mark.parametrize("recipe", _RECIPES, ids=lambda p: p.stem)
def test_every_recipe_is_understood(recipe: Path) -> None:
    arguments = parse(_ALL, [str(recipe), "--torch_compile", "false"])
    assert arguments[3].output_dir == f"outputs/{recipe.stem}"
    kept = arguments[3].load_best_model_at_end or arguments[0].train_on_validation or arguments[2].ema_decay
    assert kept, "the weights of an arbitrary last step would be kept"


def test_an_unknown_key_suggests_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("learning_rat: 1e-4\n")
    with pytest.raises(ConfigError, match=r"unknown option 'learning_rat' in .*: did you mean 'learning_rate'"):
        parse(_ALL, [str(tmp_path / "run.yaml")])
    with pytest.raises(
        ConfigError, match="unknown option 'freeze_untill' on the command line: did you mean 'freeze_until'"
    ):
        parse(_ALL, ["--output_dir", "o", "--freeze_untill", "layer3"])


def test_a_value_of_the_wrong_kind_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match=r"--image_size.*invalid int value: 'big'"):
        parse(_ALL, ["--output_dir", "o", "--image_size", "big"])


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--validation_fraction", "0"),
        ("--twin_threshold", "2"),
        ("--image_size", "8"),
        ("--drop_rate", "1"),
        ("--model_args", "[1]"),
        ("--model_args", "{"),
        ("--mixup", "-1"),
        ("--layer_decay", "0"),
        ("--zoom", "1.5"),
        ("--precision", "int8"),
    ],
)
def test_an_impossible_value_is_refused_by_name(option: str, value: str) -> None:
    with pytest.raises(ConfigError, match=option):
        parse(_ALL, ["--output_dir", "o", option, value])


def test_options_that_contradict_each_other_are_one_sentence() -> None:
    with pytest.raises(ConfigError, match=r"(?i)eval") as caught:
        parse(_ALL, ["--output_dir", "o", "--eval_strategy", "no", "--load_best_model_at_end", "true"])
    assert "\n" not in str(caught.value)


def test_a_bare_resume_means_the_last_checkpoint() -> None:
    training = parse(_ALL, ["--output_dir", "o", "--resume_from_checkpoint"])[3]
    assert training.resume_from_checkpoint == "last"


def test_a_first_word_is_the_model_to_evaluate() -> None:
    args, data = parse([EvaluationArguments, DataArguments], ["m", "--data_dir", "d"], positional="model_dir")
    assert (args.model_dir, data.data_dir) == ("m", "d")


def test_help_shows_the_commands_line_by_line_and_the_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parse(_ALL, ["--help"], description="Train.\n\n    python train.py x\n    torchrun train.py x")
    shown = capsys.readouterr().out
    assert end.value.code == 0
    assert "\n    python train.py x\n    torchrun train.py x\n" in shown and "(default: 224)" in shown


def test_no_such_file_and_no_yaml_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such configuration file"):
        parse(_ALL, [str(tmp_path / "none.yaml")])
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(ConfigError, match="is no YAML"):
        parse(_ALL, [str(tmp_path / "bad.yaml")])


def test_the_command_line_can_take_a_recipe_s_freezing_back() -> None:
    (model,) = parse([ModelArguments], ["--freeze_until", "layer3", "--freeze_until", "none"])
    assert model.freeze_until is None
    recipes = [DataArguments, ModelArguments, RecipeArguments, TrainingArguments]
    frozen, thawed = (
        parse(recipes, ["configs/resnet50.yaml", "--data_dir", "d", *more])[1]
        for more in ([], ["--freeze_until", "none"])
    )
    assert frozen.freeze_until == "layer3" and thawed.freeze_until is None
