"""Who is judged when: a job is a generator of short steps, and one that nobody waits for ends between two of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")
Progress = tuple[int, int]  # slices done, and all
Steps = Generator[Progress, None, T]

AT_ONCE = 2  # steps at a time, one per core
A_VISITOR = 2  # jobs of one visitor at a time; further ones of the same visitor wait
IN_LINE = 100  # jobs in all; further ones are asked to come back
OF_AN_ADDRESS = 50  # of those, so that one address cannot fill the line


class BusyError(Exception):
    """The line is full: nothing of the job was begun."""


@dataclass(frozen=True)
class Visitor:
    """Who asks: an address, and the number that the page in the browser gave itself, if it is a page."""

    address: str
    tab: str = ""


@dataclass
class Done(Generic[T]):
    """What a job returned."""

    value: T


@dataclass
class _Turns:
    """The turns of one visitor, kept as long as somebody uses them."""

    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(A_VISITOR))
    users: int = 0


class Jobs:
    """The line of all jobs.

    Steps are taken in the order in which they were asked for. So a picture waits for a step of a volume, not for all
    of it. A job ends by cancelling the task that runs it: the step in progress goes on to its end, no other follows.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="judging")
        self._addresses: Counter[str] = Counter()
        self._visitors: dict[Visitor, _Turns] = {}

    async def stream(self, visitor: Visitor, steps: Steps[T]) -> AsyncIterator[Progress | Done[T]]:
        """Take all steps: what each one says, and at last what the job returns.

        Args:
            visitor: for whom.
            steps: the job; it is dropped, not closed, when this is cancelled.

        Raises:
            BusyError: too many jobs are waiting.
        """
        loop = asyncio.get_running_loop()
        async with self._turn(visitor):
            step: Progress | Done[T] | None = None
            while not isinstance(step, Done):
                step = await loop.run_in_executor(self._threads, _advance, steps)
                yield step

    async def run(self, visitor: Visitor, steps: Steps[T]) -> T:
        """The same for who only wants what the job returns."""
        async for step in self.stream(visitor, steps):
            if isinstance(step, Done):
                return step.value
        raise AssertionError("a job ends by returning")

    @asynccontextmanager
    async def _turn(self, visitor: Visitor) -> AsyncIterator[None]:
        if self._addresses.total() >= IN_LINE or self._addresses[visitor.address] >= OF_AN_ADDRESS:
            raise BusyError
        self._addresses[visitor.address] += 1
        mine = self._visitors.setdefault(visitor, _Turns())
        mine.users += 1
        try:
            async with mine.turns:
                yield
        finally:
            mine.users -= 1
            if not mine.users:
                del self._visitors[visitor]
            self._addresses[visitor.address] -= 1
            if not self._addresses[visitor.address]:
                del self._addresses[visitor.address]


def _advance(steps: Steps[T]) -> Progress | Done[T]:
    try:
        return next(steps)
    except StopIteration as end:  # which no future can carry
        return Done(end.value)
