"""One progress bar for each phase of a command, on stderr. No torch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tqdm import tqdm

_Item = TypeVar("_Item")


class _Bars:
    shown = True


def show_bars(shown: bool) -> None:
    """Whether the phases from here on have a bar: not in all processes of a launch, nor with `--disable_tqdm`."""
    _Bars.shown = shown


def each(items: Iterable[_Item], phase: str, total: int | None = None) -> Iterator[_Item]:
    """The items, with a bar that says how far the phase is.

    Args:
        items: one step each.
        phase: its name, in a word or two.
        total: how many there are; default: their length, if they have one.
    """
    known = len(items) if total is None and isinstance(items, Collection) else total
    return iter(tqdm(items, phase, known, disable=not _Bars.shown, dynamic_ncols=True))


@contextmanager
def steps(phase: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar of `total` steps: each call of the function given makes one; more than `total` make the bar longer."""
    with tqdm(desc=phase, total=total, disable=not _Bars.shown, dynamic_ncols=True) as bar:

        def step() -> None:
            bar.total = max(total, bar.n + 1)
            bar.update()

        yield step
