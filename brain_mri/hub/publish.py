"""Publishing a model folder on the Hub, and the Space that serves it. No torch."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi

from brain_mri.errors import ConfigError
from brain_mri.hub.release import copy_published
from brain_mri.hub.repository import NOTHING_SENT, Repository, check_id, listing, required_token, upload
from brain_mri.hub.space import stage_space
from brain_mri.hub.static_space import stage_static_space

_MODEL_VARIABLE = "MODEL_ID"  # what space/app.py reads
_PUSH_DATA_HELP = "write a folder of images as Parquet shards, and upload them with their audit in the card"


@dataclass(frozen=True)
class Destination:
    """Where to publish, and what a Space shows.

    Attributes:
        model: id of the model repository, USER/NAME.
        space: id of the Space; None for none.
        static_space: id of the Space whose page runs the model in the visitor's browser; None for none.
        private: whether new repositories are private; None leaves that to the account's default.
        examples: pictures that the Space offers instead of those of the clone.
        examples_license: whose they are and under what licence they are shown.

    Raises:
        ConfigError: an id is not USER/NAME.
    """

    model: str
    space: str | None = None
    private: bool | None = None
    examples: Path | None = None
    examples_license: str | None = None
    static_space: str | None = None

    def __post_init__(self) -> None:
        for option, name in (("model", self.model), ("space", self.space), ("static_space", self.static_space)):
            if name is not None:
                check_id(option, name)
        if self.examples is not None and self.space is None:
            raise ConfigError("--examples are pictures of a Space: add --space USER/NAME, or leave them out.")


def publish(folder: Path, destination: Destination) -> list[str]:
    """Upload the published files of a model folder and, if the destination has any, the Spaces that serve it.

    Args:
        folder: a model folder, or the copy that `brain_mri.hub.release` makes.
        destination: where to.

    Returns:
        A line for each repository: its address, and what was uploaded.

    Raises:
        ConfigError: no token, or whatever the Hub refuses, in one sentence.
        DataError: the model folder is incomplete.
    """
    token = required_token()
    with tempfile.TemporaryDirectory(prefix="brain-mri-publish-") as scratch:
        staged = _stage(folder, destination, Path(scratch))
        api = HfApi(token=token, library_name="brain_mri")
        uploaded = [upload(api, repository, destination.private) for repository in staged]
    lines = [f"{done.url}: {done.what}" for done in uploaded]
    if destination.space is not None and uploaded[0].is_private:
        lines.append(
            f"{destination.model} is private: give the Space a token that may read it, as its secret HF_TOKEN, at "
            f"{uploaded[1].url}/settings"
        )
    return lines


def plan(folder: Path, destination: Destination) -> list[str]:
    """What `publish` would upload: every file with its size. Needs no network and no token.

    Raises:
        ConfigError: `folder` is no finished model folder.
        DataError: it is incomplete.
    """
    lines = []
    with tempfile.TemporaryDirectory(prefix="brain-mri-publish-") as scratch:
        for repository in _stage(folder, destination, Path(scratch)):
            lines += listing(repository)
    return [*lines, NOTHING_SENT]


def destination_of(arguments: Any) -> Destination | None:
    """Where `--push_to_hub` asks to publish, checked before hours of training; None without it.

    The trainer would push checkpoints too, so the option is taken from it: what is published is the finished folder.

    Args:
        arguments: TrainingArguments.

    Raises:
        ConfigError: no id, no token, or an option that publishing does not have.
    """
    if not arguments.push_to_hub:
        return None
    if arguments.hub_token is not None:
        raise ConfigError("--hub_token stays behind in the shell's history: set HF_TOKEN, or use `hf auth login`.")
    if arguments.hub_revision is not None:
        raise ConfigError("--hub_revision: what is published goes to the branch main; leave the option out.")
    if arguments.hub_model_id is None:
        raise ConfigError("--push_to_hub needs to know where to: add --hub_model_id USER/NAME.")
    required_token()
    arguments.push_to_hub = False
    return Destination(arguments.hub_model_id, private=arguments.hub_private_repo)


def publish_trained(folder: Path, destination: Destination) -> list[str]:
    """`publish` at the end of a training; an error says that the model is safe, and how to publish it.

    Raises:
        ConfigError: as `publish`.
    """
    try:
        return publish(folder, destination)
    except ConfigError as error:
        again = f"python -m brain_mri.hub publish {folder} --model {destination.model}"
        raise ConfigError(f"{error} The model is whole in {folder}; to publish it: {again}") from error


def _stage(folder: Path, destination: Destination, scratch: Path) -> list[Repository]:
    copy_published(folder, scratch / "model")
    staged = [Repository("model", destination.model, scratch / "model", {})]
    if destination.space is not None:
        target = scratch / "space"
        stage_space(target, destination.model, destination.examples, destination.examples_license)
        variables = {_MODEL_VARIABLE: destination.model}
        staged.append(Repository("space", destination.space, target, variables, sdk="gradio"))
    if destination.static_space is not None:
        target = scratch / "static_space"
        stage_static_space(target, scratch / "model", destination.model)
        staged.append(Repository("space", destination.static_space, target, {}, sdk="static"))
    return staged
