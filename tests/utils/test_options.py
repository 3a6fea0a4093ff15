from __future__ import annotations

from dataclasses import MISSING, fields
from enum import Enum
from typing import get_args, get_type_hints

from transformers import TrainingArguments
from transformers.trainer_utils import IntervalStrategy, SchedulerType

from brain_mri.arguments import TRAINING_DEFAULTS, DataArguments, RecipeArguments
from brain_mri.utils.options import TrainingOptions, options_of

_FIELDS = {field.name: field for field in fields(TrainingArguments) if field.init}
_OPTIONS = {option.name: option for option in options_of(TrainingOptions)}


def test_the_source_of_training_arguments_says_all_that_the_class_does() -> None:
    assert set(_FIELDS) - set(_OPTIONS) == {"parallelism_config"}, "an object, which no word can be"
    assert set(_OPTIONS) <= set(_FIELDS)


def test_types_and_defaults_are_those_of_the_class() -> None:
    hints = get_type_hints(TrainingArguments)
    for name, option in _OPTIONS.items():
        kinds = {hints[name], *get_args(hints[name])}
        expected = next((kind for kind in (bool, int, float) if kind in kinds), str)
        assert option.kind is expected, name
        default = _FIELDS[name].default
        default = default.value if isinstance(default, Enum) else default
        if name not in TRAINING_DEFAULTS and option.default is not None:
            assert option.default == default, name
        if default not in (None, MISSING) and name != "optim":  # which torch's version decides
            assert option.default is not None, name


def test_the_words_that_an_enumeration_knows_are_known() -> None:
    assert _OPTIONS["eval_strategy"].choices == tuple(item.value for item in IntervalStrategy)
    assert _OPTIONS["lr_scheduler_type"].choices == tuple(item.value for item in SchedulerType)
    assert "adamw_torch_fused" in _OPTIONS["optim"].choices


def test_our_defaults_are_options_of_the_trainer() -> None:
    assert set(TRAINING_DEFAULTS) <= set(_OPTIONS)
    assert all(_OPTIONS[name].default == value for name, value in TRAINING_DEFAULTS.items())


def test_groups_are_subjects() -> None:
    groups = {option.name: option.group for kind in (DataArguments, RecipeArguments) for option in options_of(kind)}
    assert (groups["data_dir"], groups["zoom"], groups["ema_decay"]) == ("data", "augmentation", "optimisation")
    assert all(option.group.startswith("TrainingArguments: ") for option in _OPTIONS.values())
    assert all(len(option.group) > len("TrainingArguments: ") for option in _OPTIONS.values())


def test_every_option_says_what_it_is_for() -> None:
    for option in [*options_of(DataArguments), *options_of(RecipeArguments), *_OPTIONS.values()]:
        assert len(option.help) > 10, option.name
