"""Errors of the Hub and the network as one sentence that says how to mend them. No torch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from brain_mri.errors import ConfigError

_AGAIN = "run the same command again: what was uploaded is kept, and the Hub shows the old state until all is there"
_XetFault = ConnectionError | TimeoutError  # what hf_xet raises when its store can't be reached, or refuses
_XET_STATUS = r"HTTP status \w+ error \((\d{3})"
_BATCH_REFUSED = "LFS batch API returned errors:"  # a ValueError of huggingface_hub's, without a class of its own


@contextmanager
def one_sentence(repository: str, endpoint: str) -> Iterator[None]:
    """Turn an error of the Hub or the network into a `ConfigError`; other errors pass unchanged.

    Args:
        repository: its id, which the sentence names.
        endpoint: address of the Hub.

    Raises:
        ConfigError: no network, no permission, no storage, or any other refusal of the Hub.
    """
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:  # re-raised unless the Hub or the network is the cause
        sentence = next((s for e in _causes(error) if (s := _explain(e, repository, endpoint))), None)
        if sentence is None:
            raise
        raise ConfigError(sentence) from error


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and its causes: huggingface_hub wraps errors of an upload's threads."""
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or current.__context__


def _explain(error: BaseException, repository: str, endpoint: str) -> str | None:
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set, so the Hub is not asked: unset it to publish."
    if isinstance(error, HfHubHTTPError):
        return _refusal(error.response.status_code, _said(error), repository, endpoint)
    if isinstance(error, _XetFault) and (status := re.search(_XET_STATUS, str(error))):
        return _refusal(int(status[1]), "", repository, endpoint)
    if isinstance(error, httpx2.TransportError | _XetFault):
        what = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return f"{endpoint} can't be reached, or broke off ({what}): check the network and HF_ENDPOINT, then {_AGAIN}."
    if isinstance(error, ValueError) and str(error).startswith(_BATCH_REFUSED):
        what = " ".join(str(error).removeprefix(_BATCH_REFUSED).split())
        return f"the Hub takes no file of this size for {repository} ({what}): {_room(endpoint)}."
    return None


def _refusal(status: int, said: str, repository: str, endpoint: str) -> str:
    """What an HTTP status means when publishing, with the Hub's own words if it `said` any."""
    if status in (413, 507) or (status == 403 and "storage" in said.lower()):
        return f"the Hub has no room for {repository} ({status}{said}): {_room(endpoint)}."
    tokens = f"{endpoint}/settings/tokens"
    sentences = {
        401: f"the Hub does not accept the token: make a new one at {tokens}, then `hf auth login` or set HF_TOKEN.",
        402: f"the Hub asks for a paid plan to hold {repository}{said}: take what is free, or see {endpoint}/pricing.",
        403: f"this token may not write to {repository}{said}: use one with write access ({tokens}), or another name.",
        404: f"{repository} can't be seen with this token: check the name, and the token's rights at {tokens}.",
        409: f"{repository} was changed by somebody else meanwhile: run the same command again.",
        412: f"{repository} was changed by somebody else meanwhile: run the same command again.",
        429: f"the Hub asks to be asked less often{said}: wait some minutes, then {_AGAIN}.",
    }
    if status >= 500:
        return f"the Hub has a fault of its own ({status}{said}): wait a little, then {_AGAIN}."
    return sentences.get(status, f"the Hub refuses {repository} ({status}{said}): mend what it names, then {_AGAIN}.")


def _said(error: HfHubHTTPError) -> str:
    words = (error.response.headers.get("X-Error-Message") or error.server_message or "").split()
    return f": {' '.join(words)}" if words else ""


def _room(endpoint: str) -> str:
    return f"delete what is no longer needed, or see {endpoint}/settings/billing for more, then {_AGAIN}"
