from __future__ import annotations

import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import constants
from support.hub_state import TinyHub, run_python
from support.hub_state import fresh_environment as _environment

from brain_mri.errors import ConfigError
from brain_mri.hub.publish import Destination, publish

# huggingface_hub's own call of its HTTP library
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")

_TOKEN, _MODEL, _SPACE = "hf_owner", "me/brain", "me/page"


def _refusal(hub: TinyHub, model: Path, destination: Destination) -> str:
    with pytest.raises(ConfigError) as caught:
        publish(model, destination)
    sentence = str(caught.value)
    assert "\n" not in sentence and re.search(r"[.)]$", sentence) and not re.search(r"hf_\w+", sentence), sentence
    return sentence


@pytest.mark.parametrize(
    ("pattern", "status", "said"),
    [
        ("POST /api/repos/create", 402, "paid plan"),
        ("POST /api/repos/create", 429, "wait some minutes"),
        ("POST /api/repos/create", 503, "fault of its own"),
        ("POST /api/models/.*/preupload/.*", 413, "no room .* delete what is no longer needed"),
        ("PUT /lfs/.*", 507, "no room .* delete what is no longer needed"),
        ("POST /api/models/.*/commit/.*", 412, "changed by somebody else meanwhile"),
        ("POST /api/models/.*/commit/.*", 400, "refuses me/brain"),
    ],
)
def test_what_the_hub_refuses_is_one_sentence_with_the_fix(
    hub: TinyHub, at: Callable[..., None], model: Path, pattern: str, status: int, said: str
) -> None:
    at(hub.url)
    hub.faults = {pattern: status}
    assert re.search(said, _refusal(hub, model, Destination(_MODEL)))


@pytest.mark.parametrize(
    ("token", "name", "said"),
    [
        ("hf_forgotten", _MODEL, "does not accept the token: make a new one"),
        ("hf_reader", _MODEL, "may not write to me/brain.*write access"),
        (_TOKEN, "you/brain", "may not write to you/brain.*another name"),
    ],
)
def test_a_token_without_the_right_is_one_sentence_with_the_fix(
    hub: TinyHub, at: Callable[..., None], model: Path, token: str, name: str, said: str
) -> None:
    at(hub.url, token)
    assert re.search(said, _refusal(hub, model, Destination(name)))


def test_a_refusal_by_the_store_of_large_files_that_the_hub_prefers_is_one_sentence_too(
    hub: TinyHub, at: Callable[..., None], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at(hub.url)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    hub.faults = {"GET .*/xet-write-token/.*": 403}
    assert "may not write to me/brain" in _refusal(hub, model, Destination(_MODEL))
    assert hub.commits("model", _MODEL) == ["initial commit"]


def test_a_name_that_is_taken_by_something_else_is_refused_and_left_alone(
    hub: TinyHub, at: Callable[..., None], model: Path
) -> None:
    at(hub.url)
    hub.create("dataset", "me/scans")
    hub.create("space", "me/docker", sdk="docker")
    hub.create("model", "me/open")
    other = hub.create("model", "me/bert")
    hub.commit(other, {"config.json": hub.blob(b"{}")}, "another model")
    assert "me/scans is a dataset on the Hub, no model" in _refusal(hub, model, Destination("me/scans"))
    assert "Space of the SDK docker" in _refusal(hub, model, Destination(_MODEL, "me/docker"))
    assert "me/open is public: make it private" in _refusal(hub, model, Destination("me/open", private=True))
    assert "me/bert holds another model" in _refusal(hub, model, Destination("me/bert"))
    assert hub.commits("model", "me/bert") == ["initial commit", "another model"]
    assert hub.commits("space", "me/docker") == hub.commits("model", "me/open") == ["initial commit"]


def test_no_network_is_one_sentence_with_the_fix(
    hub: TinyHub, at: Callable[..., None], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:  # bound but not listening: nobody answers
        taken.bind(("127.0.0.1", 0))
        at(f"http://127.0.0.1:{taken.getsockname()[1]}")
        assert "can't be reached" in _refusal(hub, model, Destination(_MODEL))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "unset it to publish" in _refusal(hub, model, Destination(_MODEL))


def test_without_a_token_or_a_proper_name_nothing_is_asked(hub: TinyHub, model: Path, tmp_path: Path) -> None:
    done = run_python(
        ["-m", "brain_mri.hub", "publish", str(model), "--model", _MODEL], _environment(tmp_path / "home", hub.url)
    )
    assert done.returncode == 2 and done.stderr.startswith("error: no token") and "hf auth login" in done.stderr
    assert done.stderr.count("\n") == 1 and not hub.log
    for name in ("brain", "me/brain/v2", "me/..", "-/-"):
        with pytest.raises(ConfigError, match="USER/NAME"):
            Destination(name)
