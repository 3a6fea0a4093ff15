"""One repository of the Hub: created if missing, and updated from a folder in one commit. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, get_token
from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError
from huggingface_hub.hf_api import DatasetInfo, ModelInfo, SpaceInfo
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # public, exported by a lazy module

from brain_mri.errors import ConfigError
from brain_mri.hub.errors import one_sentence
from brain_mri.model_folder import AUDIT, CARD, CONFIG, RUN, is_published

NOTHING_SENT = "Dry run: nothing was sent."
_TYPES = ("model", "space", "dataset")
_NOUNS = {"model": "model", "space": "Space", "dataset": "data set"}
_DATA = (CARD, AUDIT, "data/*.parquet")  # what `brain_mri.shards` writes


@dataclass(frozen=True)
class Repository:
    """A repository of the Hub, and the folder to upload to it.

    Attributes:
        kind: `model`, `space` or `dataset`.
        name: its id.
        folder: the files, laid out as in the repository.
        variables: environment variables of a Space.
        sdk: of a Space, `gradio` or `static`; None of other repositories.
    """

    kind: str
    name: str
    folder: Path
    variables: Mapping[str, str]
    sdk: str | None = None

    def is_foreign(self, there: Sequence[str]) -> bool:
        """Whether the files on the Hub are a model or a data set that was not made by this package."""
        if self.kind == "model":
            return CONFIG in there and RUN not in there
        others = set(there) - {".gitattributes", CARD}
        return self.kind == "dataset" and bool(others) and AUDIT not in there

    @property
    def files(self) -> dict[str, Path]:
        """The files by their names on the Hub."""
        found = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return {path.relative_to(self.folder).as_posix(): path for path in found}

    def is_ours(self, name: str) -> bool:
        """Whether a file on the Hub is one that publishing writes, and so may delete."""
        if self.kind == "space":
            return (self.folder / name.split("/")[0]).is_dir()
        if self.kind == "dataset":
            return any(fnmatch(name, pattern) for pattern in _DATA)
        return is_published(name)


@dataclass(frozen=True)
class Uploaded:
    """The result of an upload.

    Attributes:
        url: the repository's address.
        what: what was uploaded, in words.
        is_private: whether the repository is private.
    """

    url: str
    what: str
    is_private: bool


def upload(api: HfApi, repository: Repository, private: bool | None) -> Uploaded:
    """Create the repository if it is missing, and bring it to the folder's state in one commit, or none.

    A file from an earlier upload that the folder no longer has, such as an int8 file, is deleted: it would still be
    served.

    Args:
        api: the Hub, and who asks it.
        repository: what to upload.
        private: whether a new repository is private; None leaves that to the account's default.

    Raises:
        ConfigError: whatever the Hub refuses, in one sentence.
    """
    files, url = repository.files, address(api, repository)
    with one_sentence(repository.name, api.endpoint):
        info = _make_ready(api, repository, private)
        there = api.list_repo_files(repository.name, repo_type=repository.kind, revision=info.sha)
        if repository.is_foreign(there):
            raise ConfigError(
                f"{repository.name} holds another {_NOUNS[repository.kind]}: give --{repository.kind} a new name, or "
                "delete that one."
            )
        changes = _set_variables(api, repository)
        gone = [name for name in there if name not in files and repository.is_ours(name)]
        additions = [CommitOperationAdd(name, path) for name, path in files.items()]
        commit = api.create_commit(
            repository.name,
            [*additions, *(CommitOperationDelete(name) for name in gone)],
            commit_message="Publish with brain_mri",
            repo_type=repository.kind,
            parent_commit=info.sha,  # two uploads at once must not mix their files
        )
    size = sum(path.stat().st_size for path in files.values()) / 1e6
    changed = f"{len(files)} files, {size:.1f} MB, commit {commit.oid[:8]}"
    what = [changed if commit.oid != info.sha else "nothing changed, no commit", *changes]
    return Uploaded(url, "; ".join(what), bool(info.private))


def required_token() -> str:
    """The token that `huggingface_hub` finds in the environment or on disk.

    Raises:
        ConfigError: there is none.
    """
    token = get_token()
    if token is None:
        raise ConfigError(
            "no token for the Hub: run `hf auth login`, or set HF_TOKEN to one with write access "
            f"({constants.ENDPOINT}/settings/tokens)."
        )
    return token


def check_id(option: str, name: str) -> None:
    """Raise a `ConfigError` that names the option, unless `name` is an id on the Hub, USER/NAME."""
    try:
        validate_repo_id(name)
        is_id = name.count("/") == 1
    except HFValidationError:
        is_id = False
    if not is_id:
        raise ConfigError(f"--{option} {name}: give an id on the Hub, USER/NAME.")


def listing(repository: Repository) -> list[str]:
    """A dry run's lines for a repository: every file with its size in bytes."""
    sizes = {name: path.stat().st_size for name, path in repository.files.items()}
    lines = [f"{size:>14,}  {name}" for name, size in sizes.items()]
    return [f"{repository.kind} {repository.name}", *lines, f"{sum(sizes.values()):>14,}  bytes in {len(sizes)} files"]


def address(api: HfApi, repository: Repository) -> str:
    """The web address of a repository."""
    return f"{api.endpoint}/{constants.REPO_TYPES_URL_PREFIXES.get(repository.kind, '')}{repository.name}"


def _make_ready(api: HfApi, repository: Repository, private: bool | None) -> ModelInfo | SpaceInfo | DatasetInfo:
    """Create the repository if it is missing; check its kind, SDK and visibility."""
    name, kind, url = repository.name, repository.kind, address(api, repository)
    api.create_repo(name, repo_type=kind, private=private, exist_ok=True, space_sdk=repository.sdk)
    try:
        info = _info(api, repository)
    except RepositoryNotFoundError as error:
        others = [other for other in _TYPES if other != kind and api.repo_exists(name, repo_type=other)]
        if not others:
            raise
        raise ConfigError(f"{name} is a {others[0]} on the Hub, no {kind}: give --{kind} another name.") from error
    if private and not info.private:
        raise ConfigError(f"{name} is public: make it private at {url}/settings, or leave --private out.")
    if isinstance(info, SpaceInfo) and info.sdk not in (None, repository.sdk):
        raise ConfigError(f"{name} is a Space of the SDK {info.sdk}, not {repository.sdk}: choose another name.")
    return info


def _info(api: HfApi, repository: Repository) -> ModelInfo | SpaceInfo | DatasetInfo:
    if repository.kind == "dataset":
        return api.dataset_info(repository.name)
    return api.space_info(repository.name) if repository.kind == "space" else api.model_info(repository.name)


def _set_variables(api: HfApi, repository: Repository) -> list[str]:
    """Set the variables that differ, as each change restarts the Space; returns what was set."""
    if not repository.variables:
        return []
    there = {key: variable.value for key, variable in api.get_space_variables(repository.name).items()}
    new = {key: value for key, value in repository.variables.items() if there.get(key) != value}
    for key, value in new.items():
        api.add_space_variable(repository.name, key, value)
    return [f"{key} = {value}" for key, value in new.items()]
