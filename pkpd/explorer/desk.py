"""Where requests wait: one simulation at a time, each state once, and none that nobody waits for.

A page that moves a slider asks faster than the answer comes. Of the requests of one page only the
last is worth simulating; of the requests of ten pages those for the same state share one answer.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

MOST_ANSWERS = 128
MOST_PAGES = 1000
MOST_WAITING = 64


class Superseded(Exception):
    """The page has asked for something newer."""


class Busy(Exception):
    """More requests wait than will be answered soon."""


class Desk:
    """Answers by state.

    Attributes
    ----------
    simulated, dropped, waiting
        How many answers were worked out, how many requests were dropped as stale, and how many
        wait now or are being answered.
    """

    def __init__(self) -> None:
        self.simulated = 0
        self.dropped = 0
        self._answers: OrderedDict[str, bytes] = OrderedDict()
        self._newest: OrderedDict[str, int] = OrderedDict()
        self._under_way: dict[str, asyncio.Future[bytes]] = {}
        self._turn = asyncio.Lock()
        self.waiting = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="explorer")

    async def answer(self, key: str, page: str, number: int, work: Callable[[], bytes]) -> bytes:
        """Answer for a state, from the cache if it is there.

        Parameters
        ----------
        key
            Of the state.
        page, number
            Which page asks, and the number of its request; a higher one makes lower ones stale.
        work
            Works the answer out, in a thread.

        Raises
        ------
        Superseded
            If the page has asked again before the work began.
        Busy
            If too many wait.
        """
        self._note(page, number)
        if key in self._answers:
            self._answers.move_to_end(key)
            return self._answers[key]
        if key in self._under_way:
            return await asyncio.shield(self._under_way[key])
        if self.waiting >= MOST_WAITING:
            raise Busy
        self.waiting += 1
        try:
            async with self._turn:
                if self._newest.get(page, number) > number:
                    self.dropped += 1
                    raise Superseded
                if key in self._answers:
                    return self._answers[key]
                return await self._worked_out(key, work)
        finally:
            self.waiting -= 1

    def finished(self) -> None:
        """Stop the thread; what it is at is not waited for."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def run(self, work: Callable[[], bytes]) -> bytes:
        """Run something that is no simulation of a state, in its turn."""
        async with self._turn:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _worked_out(self, key: str, work: Callable[[], bytes]) -> bytes:
        loop = asyncio.get_running_loop()
        under_way = asyncio.ensure_future(loop.run_in_executor(self._thread, work))
        self._under_way[key] = under_way
        try:
            # shielded: a page that goes away does not free the thread, so the turn stays taken
            found = await asyncio.shield(under_way)
        except asyncio.CancelledError:
            await asyncio.wait([under_way])
            raise
        finally:
            self._under_way.pop(key, None)
        self.simulated += 1
        self._answers[key] = found
        while len(self._answers) > MOST_ANSWERS:
            self._answers.popitem(last=False)
        return found

    def _note(self, page: str, number: int) -> None:
        self._newest[page] = max(number, self._newest.get(page, number))
        self._newest.move_to_end(page)
        while len(self._newest) > MOST_PAGES:
            self._newest.popitem(last=False)
