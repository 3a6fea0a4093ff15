from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import TrainingArguments

from brain_mri.arguments import DataArguments, EvaluationArguments, ModelArguments, RecipeArguments
from brain_mri.errors import ConfigError
from brain_mri.utils.argument_parser import canonical, parse
from brain_mri.utils.options import TrainingOptions

_ALL = [DataArguments, ModelArguments, RecipeArguments, TrainingArguments]
_EARLY = [*_ALL[:3], TrainingOptions]
_ROOT = Path(__file__).parents[2]
_RECIPES = sorted((_ROOT / "configs").glob("*.yaml"))
_ENOUGH = 4.0  # seconds of CPU for what is answered without torch; torch and transformers alone take more


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


def test_the_command_line_can_take_back_what_a_recipe_says() -> None:
    (model,) = parse([ModelArguments], ["--freeze_until", "layer3", "--freeze_until", "none"])
    assert model.freeze_until is None
    frozen, thawed = (parse(_EARLY, ["resnet50", *more])[1] for more in ([], ["--freeze_until", "none"]))
    assert frozen.freeze_until == "layer3" and thawed.freeze_until is None
    words = ["--drop_rate=none", "--metric_for_best_model", "none", "--lr_scheduler_kwargs", "None"]
    _, model, _, training = parse(_EARLY, ["vgg16", *words])
    assert model.drop_rate is None and not {"metric_for_best_model", "lr_scheduler_kwargs"} & set(training.given)


def test_none_is_no_value_of_an_option_that_has_one() -> None:
    with pytest.raises(ConfigError, match="--image_size: invalid int value: 'none'"):
        parse(_EARLY, ["--image_size", "none"])
    with pytest.raises(ConfigError, match="--drop_rate: invalid float value: 'much'"):
        parse(_EARLY, ["--drop_rate", "much"])
    _, _, recipe, training = parse(_EARLY, ["--class_weights", "none", "--report_to", "none"])
    assert recipe.class_weights == "none" and training.given["report_to"] == "none"


def test_what_the_command_line_says_is_told_from_the_recipe() -> None:
    training = parse(_EARLY, ["resnet50", "--lr", "1e-3", "--no-pretrained", "--image_size=64"])[3]
    assert training.told == {"learning_rate", "pretrained", "image_size"}


@pytest.mark.parametrize("words", [["--lr", "3e-4"], ["--lr=3e-4"], ["--learning-rate", "3e-4"]])
def test_an_option_is_understood_under_the_names_that_others_give_it(words: list[str]) -> None:
    assert parse(_EARLY, words)[3].given == {"learning_rate": 3e-4}


def test_batch_size_and_epochs_mean_those_of_the_training(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("epochs: 7\nbatch_size: 4\n")
    given = parse(_EARLY, [str(tmp_path / "run.yaml"), "--batch_size", "5"])[3].given
    assert (given["num_train_epochs"], given["per_device_train_batch_size"]) == (7, 5)
    (args,) = parse([EvaluationArguments], ["m", "--batch_size", "5"], positional="model_dir")
    assert args.batch_size == 5, "an option of its own is not taken for another"


def test_one_option_under_two_names_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("lr: 1\nlearning_rate: 2\n")
    with pytest.raises(ConfigError, match=r"lr.*same option"):
        parse(_EARLY, [str(tmp_path / "run.yaml")])


@pytest.mark.parametrize(
    "words", [["--no_pretrained"], ["--no-pretrained"], ["--pretrained", "no"], ["--pretrained=0"]]
)
def test_a_switch_can_be_turned_off_in_several_ways(words: list[str]) -> None:
    assert parse([ModelArguments], words)[0].pretrained is False


def test_a_bare_switch_is_on() -> None:
    assert parse([DataArguments], ["--streaming", "--split_seed", "1"])[0].streaming is True


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--num_train_epochs", "ten"], "--num_train_epochs.*'ten'"),
        (["--eval_strategy", "epochs"], "--eval_strategy.*'epochs'.*'epoch'"),
        (["--torch_compile", "maybe"], "--torch_compile.*'maybe'"),
        (["--seed"], "--seed.*expected one argument"),
        (["--seed", "9" * 6000], "--seed.*invalid int"),
        (["--seed", "-1"], "--seed -1"),
        (["--learning_rate", "-1"], "--learning_rate -1"),
        (["--learning_rate", "inf"], "--learning_rate inf"),
        (["--num_train_epochs", "0"], "--num_train_epochs 0"),
        (["--num_train_epochs", "-3"], "--num_train_epochs -3"),
        (["quickstart", "resnet50"], "'resnet50'"),
    ],
)
def test_a_value_of_the_trainer_that_can_not_be_is_refused_before_it_is_asked(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        parse(_EARLY, words)
    assert len(str(caught.value)) < 600


def test_a_list_is_for_options_that_take_one(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("label_names: [a, b]\n")
    assert parse(_EARLY, [str(tmp_path / "run.yaml")])[3].given["label_names"] == ["a", "b"]
    (tmp_path / "run.yaml").write_text("seed: [1, 2]\n")
    with pytest.raises(ConfigError, match="seed takes one value"):
        parse(_EARLY, [str(tmp_path / "run.yaml")])


def test_a_value_may_begin_with_a_dash_in_a_recipe(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("run_name: -x\n")
    assert parse(_EARLY, [str(tmp_path / "run.yaml")])[3].given["run_name"] == "-x"


def test_a_recipe_s_name_is_where_its_model_goes(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("seed: 1\n")
    assert parse(_EARLY, [str(tmp_path / "mine.yaml")])[3].given["output_dir"] == "outputs/mine"
    assert parse(_EARLY, [str(tmp_path / "mine.yaml"), "--output_dir", "o"])[3].given["output_dir"] == "o"


def test_what_all_recipes_want_is_the_default_and_can_be_taken_back() -> None:
    training = parse(_ALL, ["--output_dir", "o", "--logging_steps", "3"])[3]
    assert training.dataloader_drop_last and training.remove_unused_columns is False
    assert training.save_total_limit == 2 and training.ddp_find_unused_parameters is False
    assert training.logging_steps == 3 and training.report_to == []
    assert parse(_ALL, ["--output_dir", "o", "--dataloader_drop_last", "false"])[3].dataloader_drop_last is False


def test_options_are_the_same_whether_the_trainer_is_there_yet_or_not() -> None:
    words = ["vgg16", "--learning_rate", "3e-4", "--report_to", "none"]
    now, later = parse(_ALL, words)[3], parse(_EARLY, words)[3]
    assert later.build(TrainingArguments).to_dict() == now.to_dict()


def test_words_for_another_command_get_their_own_names() -> None:
    words = ["x.yaml", "--lr=1", "--folds", "3", "--no-pretrained", "--mix-up", "2"]
    assert canonical(words, _EARLY) == [
        "x.yaml",
        "--learning_rate=1",
        "--folds",
        "3",
        "--pretrained=false",
        "--mix_up",
        "2",
    ]


def test_help_goes_by_subject_ours_first(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(_EARLY, ["--help"], prog="brain-mri train")
    said = capsys.readouterr().out
    headings = ["\ndata:", "\nmodel:", "\naugmentation:", "\noptimisation:", "\nTrainingArguments: output:"]
    places = [said.index(heading) for heading in headings]
    assert places == sorted(places) and "efficientnet_fast" in said[: places[0]]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--help"], 0, "--learning_rate"),
        (["quickstart", "--learning_ratte", "1"], 2, "did you mean 'learning_rate'"),
        (["quickstart", "--data_dir", "no/where/at/all"], 2, "no such folder"),
    ],
)
def test_an_answer_comes_before_torch(words: list[str], code: int, said: str, tmp_path: Path) -> None:
    """Measured in seconds of CPU, which a busy machine does not change much; the bound is generous."""
    command = [sys.executable, "-m", "brain_mri.cli", "train", *words]
    with (tmp_path / "said").open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, cwd=_ROOT)
        _, status, used = os.wait4(process.pid, 0)
    assert os.waitstatus_to_exitcode(status) == code and said in (tmp_path / "said").read_text()
    assert used.ru_utime + used.ru_stime < _ENOUGH
