"""Where requests wait: one simulation at a time, each state once, and none that nobody waits for.

A page that moves a slider asks faster than the answer comes. Of the requests of one page only the
last is worth simulating; of the requests of ten pages those for the same state share one answer.
A long simulation holds nobody up: after `PATIENCE_S` the next has its turn, in another thread.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

MOST_ANSWERS = 128
MOST_PAGES = 1000
MOST_WAITING = 64
PATIENCE_S = 20.0
MOST_LEFT = 2
"""Simulations beyond that which go on at once: each holds a core and its memory."""


class Superseded(Exception):
    """The page has asked for something newer: what it waited for is not begun, or given up."""


class Busy(Exception):
    """More requests wait than will be answered soon."""


class TooLong(Exception):
    """A simulation takes longer than a request waits; its answer is kept when it comes."""


class Desk:
    """Answers by state.

    Parameters
    ----------
    patience_s
        Seconds that a request waits for what it has begun.

    Attributes
    ----------
    simulated, dropped, left
        How many answers were worked out, how many requests were dropped as stale, and how many
        simulations go on that nobody waits for.
    """

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self.patience_s = patience_s
        self.left = 0
        self.simulated = 0
        self.dropped = 0
        self._answers: OrderedDict[str, bytes] = OrderedDict()
        self._newest: OrderedDict[str, int] = OrderedDict()
        self._under_way: dict[str, asyncio.Future[bytes]] = {}
        self._turn = asyncio.Lock()
        self._asked: list[tuple[str | None, int]] = []
        self._thread = _thread()

    async def answer(
        self, key: str, page: str | None, number: int, work: Callable[[], bytes]
    ) -> bytes:
        """Answer for a state, from the cache if it is there.

        Parameters
        ----------
        key
            Of the state.
        page, number
            Which page asks, and the number of its request; a higher one makes lower ones stale.
            What no page asks for (``None``) is never stale.
        work
            Works the answer out, in a thread.

        Raises
        ------
        Superseded
            If the page has asked again before the work began, or the work gives up for that.
        Busy
            If too many wait, or too many simulations go on that took too long.
        TooLong
            If the work takes longer than a request waits.
        """
        self._note(page, number)
        if key in self._answers:
            self._answers.move_to_end(key)
            return self._answers[key]
        if key in self._under_way:
            under_way = self._under_way[key]
            await asyncio.wait([under_way], timeout=self.patience_s)
            if not (_given_up(under_way) and self.wants(page, number)):
                return _result(under_way)
        self._enter(page, number)
        try:
            async with self._turn:
                if not self.wants(page, number):
                    self.dropped += 1
                    raise Superseded
                if key in self._answers:
                    return self._answers[key]
                under_way = self._under_way.get(key)  # begun, and left, while this one waited
                if under_way is None:
                    under_way = self._begin(work, key)
                    await self._patiently(under_way)
        finally:
            self._asked.remove((page, number))
        return _result(under_way)

    def wants(self, page: str | None, number: int) -> bool:
        """Whether a page has asked for nothing newer."""
        return page is None or self._newest.get(page, number) <= number

    def has(self, key: str) -> bool:
        """Whether the answer of a state is there."""
        return key in self._answers

    def has_begun(self, key: str) -> bool:
        """Whether the answer of a state is there, or under way."""
        return key in self._answers or key in self._under_way

    def put(self, key: str, answer: bytes) -> None:
        """Keep an answer that was worked out before."""
        self._answers[key] = answer

    def finished(self) -> None:
        """Stop the thread; what it is at is not waited for."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def run(self, work: Callable[[], bytes]) -> bytes:
        """Run something that is no simulation of a state, in its turn.

        Raises
        ------
        Busy
            As `answer`.
        """
        self._enter(None, 0)
        try:
            async with self._turn:
                under_way = self._begin(work)
                await self._patiently(under_way)
            return await asyncio.shield(under_way)
        finally:
            self._asked.remove((None, 0))

    @property
    def waiting(self) -> int:
        """How many wait now or are being answered."""
        return len(self._asked)

    def _enter(self, page: str | None, number: int) -> None:
        """Wait among the others, unless too many do; stale ones are dropped in their turn."""
        if sum(self.wants(*one) for one in self._asked) >= MOST_WAITING:
            raise Busy
        self._asked.append((page, number))

    def _begin(self, work: Callable[[], bytes], key: str | None = None) -> asyncio.Future[bytes]:
        """Begin work in the thread; what has a key is kept."""
        if self.left >= MOST_LEFT:
            raise Busy
        loop = asyncio.get_running_loop()
        under_way = asyncio.ensure_future(loop.run_in_executor(self._thread, work))
        if key is not None:
            self._under_way[key] = under_way
            under_way.add_done_callback(lambda done: self._keep(key, done))
        return under_way

    def _keep(self, key: str, done: asyncio.Future[bytes]) -> None:
        self._under_way.pop(key, None)
        if done.cancelled() or done.exception() is not None:
            return
        self.simulated += 1
        self._answers[key] = done.result()
        while len(self._answers) > MOST_ANSWERS:
            self._answers.popitem(last=False)

    async def _patiently(self, under_way: asyncio.Future[bytes]) -> None:
        """Wait for what is under way; where it takes too long the next has another thread."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self.patience_s
        try:
            await asyncio.wait([under_way], timeout=self.patience_s)
        except asyncio.CancelledError:
            # a page that goes away does not free the thread, so the turn stays taken
            await asyncio.wait([under_way], timeout=max(0.0, until - loop.time()))
            raise
        if not under_way.done():
            self.left += 1
            under_way.add_done_callback(self._ended)
            self._thread.shutdown(wait=False)
            self._thread = _thread()

    def _ended(self, done: asyncio.Future[bytes]) -> None:
        self.left -= 1
        if not done.cancelled():
            done.exception()  # nobody else asks for it

    def _note(self, page: str | None, number: int) -> None:
        if page is None:
            return
        self._newest[page] = max(number, self._newest.get(page, number))
        self._newest.move_to_end(page)
        while len(self._newest) > MOST_PAGES:
            self._newest.popitem(last=False)


def _given_up(under_way: asyncio.Future[bytes]) -> bool:
    """Whether work ended since the page for which it was begun has moved on."""
    ended = under_way.done() and not under_way.cancelled()
    return ended and isinstance(under_way.exception(), Superseded)


def _result(under_way: asyncio.Future[bytes]) -> bytes:
    if not under_way.done():
        raise TooLong
    return under_way.result()


def _thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="explorer")
