"""The options of a command line: of this package's dataclasses and of transformers' `TrainingArguments`.

Importing `TrainingArguments` imports torch, which is too slow for `--help` or a typo. So its options are read from its
source.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from brain_mri.arguments import TRAINING_DEFAULTS
from brain_mri.errors import ConfigError

_KINDS: dict[str, type] = {"bool": bool, "int": int, "float": float, "str": str}
_NOT_FOR_IMAGES = {  # options of transformers' trainer under which a classifier of images can't be trained or judged
    "neftune_noise_alpha": "it adds noise to embeddings of words, which these networks do not have",
    "prediction_loss_only": "validation is judged by what the network predicts",
    "batch_eval_metrics": "validation is judged as a whole",
}
DEFAULT_FOLDER = "outputs/run"
_TRACKERS = {  # values of --report_to, and the modules of which each needs one
    "azure_ml": ("azureml",),
    "clearml": ("clearml",),
    "codecarbon": ("codecarbon",),
    "comet_ml": ("comet_ml",),
    "dagshub": ("dagshub",),
    "dvclive": ("dvclive",),
    "flyte": ("flytekit",),
    "mlflow": ("mlflow",),
    "neptune": ("neptune",),
    "swanlab": ("swanlab",),
    "tensorboard": ("tensorboard", "tensorboardX"),
    "trackio": ("trackio",),
    "wandb": ("wandb",),
}
_WRITABLE = {*_KINDS, "list", "dict"}  # types of fields whose value can be written as a word
_SECTION = re.compile(r"\s*# --- (.+?) ---")


@dataclass(frozen=True)
class Option:
    """One option.

    Attributes:
        name: with underscores, without dashes.
        group: its heading in `--help`.
        help: a sentence.
        kind: the type of its value.
        default: None if it is unknown, or decided later.
        choices: the values allowed; empty: any.
        several: whether it takes more than one value.
        bare: its value if none is given; None: one is required.
    """

    name: str
    group: str
    help: str
    kind: type = str
    default: Any = None
    choices: tuple[str, ...] = ()
    several: bool = False
    bare: Any = None


@dataclass(frozen=True)
class TrainingOptions:
    """The given options of transformers' `TrainingArguments`, before transformers is imported.

    Attributes:
        given: their values, by name.
        told: the names of all options, of any kind, that the command line set, and not the recipe.
    """

    given: Mapping[str, Any]
    told: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        self._check_numbers()
        tracker = self.given.get("report_to", "none")
        if tracker in ("none", "all", "kubeflow"):
            return
        if tracker not in _TRACKERS:
            raise ConfigError(f"--report_to {tracker}: transformers reports to {', '.join(_TRACKERS)}, all or none.")
        if not any(find_spec(name) for name in _TRACKERS[tracker]):
            name = _TRACKERS[tracker][0]
            raise ConfigError(f"--report_to {tracker}: pip install {name} first, or leave the option out.")

    def _check_numbers(self) -> None:
        rate, seed = self.given.get("learning_rate", 1.0), self.given.get("seed", 0)
        if not 0 < rate < math.inf:
            raise ConfigError(f"--learning_rate {rate}: give a number above 0, such as 1e-4.")
        if not 0 <= seed < 2**32:
            raise ConfigError(f"--seed {seed}: give a whole number from 0 to {2**32 - 1}.")
        epochs = self.given.get("num_train_epochs", 1)
        if not 0 < epochs < math.inf and self.given.get("max_steps", -1) <= 0:
            raise ConfigError(f"--num_train_epochs {epochs}: nothing would be trained; give a number above 0.")

    def build(self, training_arguments: type) -> Any:
        """The `TrainingArguments`, of that class.

        Raises:
            ConfigError: the options contradict each other, do not fit images, or need a package that is not there.
        """
        self._check()
        try:
            return training_arguments(**(TRAINING_DEFAULTS | dict(self.given)))
        except (ValueError, ImportError) as error:
            raise ConfigError(" ".join(str(error).split())) from error

    def _check(self) -> None:
        if unfit := next((name for name in _NOT_FOR_IMAGES if self.given.get(name)), None):
            raise ConfigError(f"--{unfit}: {_NOT_FOR_IMAGES[unfit]}; leave it out.")
        if self.given.get("eval_do_concat_batches") is False:
            raise ConfigError("--eval_do_concat_batches false: validation is judged as a whole; leave it out.")
        if self.given.get("use_liger_kernel") and find_spec("liger_kernel") is None:
            raise ConfigError("--use_liger_kernel: pip install liger-kernel first, or leave it out.")
        for name in ("dataloader_persistent_workers", "dataloader_multiprocessing_context"):
            if self.given.get(name) and not self.given.get("dataloader_num_workers"):
                raise ConfigError(f"--{name}: there are no such processes; give --dataloader_num_workers 1 or more.")


def options_of(kind: type) -> list[Option]:
    """The options that fill a dataclass of `brain_mri.arguments`, or `TrainingArguments` of transformers.

    A field's metadata gives its `help`, its `choices`, and the `group` that begins with it.
    """
    if is_training(kind):
        return list(_training_options())
    group = kind.__name__.removesuffix("Arguments").lower()
    found = []
    for field in fields(kind):
        group = field.metadata.get("group", group)
        default = None if field.default is MISSING else field.default
        found.append(_option(field.name, group, str(field.type), default, field.metadata))
    return found


def is_training(kind: type) -> bool:
    """Whether it is `TrainingArguments`, or a stand-in for them."""
    return kind is TrainingOptions or kind.__module__ == "transformers.training_args"


def _option(name: str, group: str, annotation: str, default: Any, metadata: Mapping[str, Any]) -> Option:
    """The option of a field in a dataclass' source."""
    types = [part.strip() for part in re.sub(r"\[.*?\]", "", annotation).split("|")]
    kind = next((_KINDS[part] for part in ("bool", "int", "float") if part in types), str)
    return Option(
        name=name,
        group=group,
        help=str(metadata.get("help", "")),
        kind=kind,
        default=default,
        choices=tuple(metadata.get("choices", ())),
        several="list" in types and "str" not in types,
        bare=metadata.get("const", True if kind is bool else None),
    )


@cache
def _training_options() -> tuple[Option, ...]:
    found = find_spec("transformers")
    if found is None or not found.submodule_search_locations:
        raise ConfigError("transformers is not installed: pip install brain-mri brings it.")
    folder = Path(found.submodule_search_locations[0])
    source, enums = ((folder / name).read_text(encoding="utf-8") for name in ("training_args.py", "trainer_utils.py"))
    tree = ast.parse(source)
    choices = _choices(tree) | _choices(ast.parse(enums))
    (body,) = (node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "TrainingArguments")
    return tuple(_read_fields(body, source.splitlines(), choices))


def _read_fields(body: list[ast.stmt], lines: list[str], choices: Mapping[str, tuple[str, ...]]) -> Iterator[Option]:
    group, read = "", body[0].lineno
    for node in body:
        sections = [match[1] for line in lines[read : node.lineno] if (match := _SECTION.match(line))]
        group, read = (sections or [group])[-1], node.end_lineno or node.lineno
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.value, ast.Call):
            continue
        said = {keyword.arg: _literal(keyword.value) for keyword in node.value.keywords}
        if said.get("init") is False:
            continue
        name, annotation = ast.unparse(node.target), ast.unparse(node.annotation)
        words = re.findall(r"\w+", annotation)
        allowed = next((choices[word] for word in words if word in choices), ())
        if allowed or _WRITABLE.intersection(words):
            metadata = {"choices": allowed} | (said.get("metadata") or {})
            default = TRAINING_DEFAULTS.get(name, said.get("default"))
            yield _option(name, f"TrainingArguments: {group.lower()}", annotation, default, metadata)


def _choices(tree: ast.Module) -> dict[str, tuple[str, ...]]:
    """The values of each enumeration of strings in a file."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and any("Enum" in ast.unparse(base) for base in node.bases):
            values = (_literal(item.value) for item in node.body if isinstance(item, ast.Assign))
            found[node.name] = tuple(value for value in values if isinstance(value, str))
    return found


def _literal(node: ast.expr) -> Any:
    """The value of an expression of constants; a dictionary without its values that are no constants."""
    if isinstance(node, ast.Dict):
        pairs = ((_literal(key), _literal(value)) for key, value in zip(node.keys, node.values, strict=True) if key)
        return {key: value for key, value in pairs if value is not None}
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None
