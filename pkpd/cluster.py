"""Blocks of work on the workers of a Dask scheduler, with their results in order.

A block is a function of one item, or of some where one takes a moment: to send a block costs more
than that. The function travels once to each worker, those that come later too; a worker that is
lost loses the block it was at, which another does again. As many blocks are under way as the
workers have threads, and as many wait: memory does not grow with their number.
"""

from __future__ import annotations

import hashlib
import logging
import pickle
import platform
import threading
import time
import uuid
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NoReturn, TypeVar

from pkpd.digests import whole_digest
from pkpd.errors import PkpdError, PkpdWarning

T = TypeVar("T")
LOCAL = "local"
"""In place of an address: processes of this machine."""

# blocks share the cores already
_ENVIRONMENT = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
# what Dask does many times a second beside the work took every worker some 7 % of a core
_SETTINGS: Any = {
    "distributed.nanny.pre-spawn-environ": _ENVIRONMENT,
    "distributed.worker.profile.enabled": False,
    "distributed.worker.memory.monitor-interval": "1s",
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.tick.limit": "60s",
    "distributed.admin.system-monitor.interval": "10s",
}
_KEPT = 4
_BLOCK_S = 0.5
_MOST_ITEMS = 16
_PATIENCE_S = 20
_lock = threading.Lock()
_made: OrderedDict[str, Callable[[Any], Any]] = OrderedDict()
_brought: dict[str, bytes] = {}  # functions by the plugin that brought them to this worker


class Workers:
    """Workers of a scheduler.

    Parameters
    ----------
    client
        A ``distributed.Client``.
    """

    def __init__(self, client: Any) -> None:
        self.client = client
        self._sizes: dict[str, int] = {}  # of the last blocks of a function

    @property
    def threads(self) -> int:
        """Threads of all workers."""
        return max(sum(self.client.nthreads().values()), 1)

    def in_turn(self, function: Callable[[Any], T], items: Sequence[Any]) -> Iterator[T]:
        """Results of a function in the order of the items.

        Raises
        ------
        PkpdError
            What the function raised, or that workers were lost again and again.
        """
        found: dict[int, T] = {}
        given = 0

        def out(sent: int, _: int) -> int:
            return sent - given

        for first, results in self._done(function, items, out):
            found.update(enumerate(results, first))
            while given in found:
                yield found.pop(given)
                given += 1

    def as_done(self, function: Callable[[Any], T], items: Sequence[Any]) -> Iterator[T]:
        """As `in_turn`, but in the order in which they are ready: for results that are kept."""
        for _, results in self._done(function, items, lambda _, under_way: under_way):
            yield from results

    def _done(
        self,
        function: Callable[[Any], T],
        items: Sequence[Any],
        out: Callable[[int, int], int],
    ) -> Iterator[tuple[int, list[T]]]:
        """First places and results of blocks; ``out(sent, under way)`` items count as out."""
        import cloudpickle
        from distributed import CancelledError, wait

        packed = cloudpickle.dumps(function)
        own = whole_digest()
        key, plugin = hashlib.sha256(packed).hexdigest(), f"pkpd-{uuid.uuid4().hex}"
        # as a task or data of the scheduler it would be lost with the worker that holds it, and
        # the blocks of other workers, which depend on it, would be done again
        self.client.register_plugin(_bringer(packed, plugin), name=plugin)
        under_way: dict[Any, tuple[int, int]] = {}
        back: list[tuple[int, int]] = []  # what blocks left undone
        sent = waiting = 0
        kind = getattr(function, "__qualname__", type(function).__qualname__)
        size = self._sizes.get(kind, 1)

        def send(first: int, end: int) -> None:
            some = items[first:end]
            future = self.client.submit(_do, plugin, key, own, some, pure=False)
            under_way[future] = first, end

        try:
            while sent < len(items) or under_way or back:
                threads = self.threads  # workers come and go
                while back:
                    send(*back.pop())
                while sent < len(items) and out(sent, waiting) < 2 * threads * size:
                    # the last blocks are small, so that all workers end together
                    here = max(min(size, (len(items) - sent) // threads), size // 4, 1)
                    here = min(here, len(items) - sent)
                    send(sent, sent + here)
                    sent += here
                    waiting += here
                # results are taken at once: one that waits on a worker is lost with it
                with self.client.as_current():
                    done: Any = wait(list(under_way), return_when="FIRST_COMPLETED")
                for future in done.done:
                    if future.status in ("lost", "pending"):  # its worker ended: another does it
                        continue
                    first, end = under_way.pop(future)
                    if future.status in ("error", "cancelled"):
                        _refuse(future)
                    seconds, number, results = future.result()
                    size = self._sizes[kind] = _items(seconds / number)
                    waiting -= number
                    undone = range(first + number, end, size)
                    back += [(one, min(one + size, end)) for one in undone]
                    yield first, pickle.loads(results)
        except (CancelledError, OSError) as error:
            raise PkpdError(
                where="cluster",
                what="its scheduler does not answer any more",
                remedy="start it and its workers again, and run this again",
            ) from error
        finally:
            if self.client.status == "running":
                self.client.cancel(list(under_way))
                self.client.unregister_worker_plugin(plugin)


def _items(seconds: float) -> int:
    """How many items of so many seconds make a block."""
    return max(min(int(_BLOCK_S / max(seconds, 1e-9)), _MOST_ITEMS), 1)


def _refuse(future: Any) -> NoReturn:
    error = future.exception() if future.status == "error" else None
    if isinstance(error, PkpdError):
        raise error
    told = f"{type(error).__name__}: {error}" if error is not None else future.status
    raise PkpdError(
        where="cluster",
        what=f"a block of work was not done ({told[:300]})",
        remedy="see that its workers have memory enough and the same versions as this process",
    ) from error


def _bringer(packed: bytes, name: str) -> Any:
    """Plugin of a worker that holds a packed function there."""
    from distributed import WorkerPlugin

    class Bringer(WorkerPlugin):
        def setup(self, worker: Any) -> None:
            _bring(name, packed)

        def teardown(self, worker: Any) -> None:
            _bring(name, None)

    return Bringer()


def _bring(name: str, packed: bytes | None) -> None:
    """Keep a packed function in this worker, or forget it."""
    if packed is None:
        _brought.pop(name, None)
    else:
        _brought[name] = packed


def _do(plugin: str, key: str, source: str, items: Sequence[Any]) -> tuple[float, int, bytes]:
    """Do one block; give its seconds, how many items were done, and their results packed.

    Items that would begin after twice the time of a block are left for others: one that takes long
    does not hold up those behind it. What the function compiled stays with the worker for the next.
    Dask would send every array of the results by itself, and they are many and small.

    Raises
    ------
    PkpdError
        If the package here has another source, by its digest, than where the work comes from.
    """
    import cloudpickle
    from distributed.protocol.pickle import dumps

    began = time.perf_counter()
    done = []
    with _lock:
        function = _made.get(key)
        if function is None:
            if whole_digest() != source:
                raise PkpdError(
                    where=f"cluster, a worker on {platform.node()}",
                    what=f"its pkpd has another source ({whole_digest()}, not {source})",
                    remedy="install the same version there, and start the worker again",
                )
            function = cloudpickle.loads(_brought[plugin])
            done.append(function(items[0]))  # alone: it compiles what the others use
            _made[key] = function
            while len(_made) > _KEPT:
                _made.popitem(last=False)
    for item in items[len(done) :]:
        if done and time.perf_counter() - began > 2 * _BLOCK_S:
            break
        done.append(function(item))
    return time.perf_counter() - began, len(done), dumps(done)


@contextmanager
def workers(address: str | None, processes: int) -> Iterator[Workers | None]:
    """Yield the workers of an address, or nothing where there is none.

    Parameters
    ----------
    address
        Of a scheduler, ``"tcp://host:8786"``; ``"local"`` for processes of this machine.
    processes
        How many of these.

    Raises
    ------
    PkpdError
        If Dask is not installed, or nobody answers at the address.
    """
    if address is None:
        yield None
        return
    try:
        import cloudpickle  # noqa: F401
        import dask
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise PkpdError(
            where=f"cluster {address}",
            what="this needs Dask, which is not installed",
            remedy="in a checkout of pkpd run pip install '.[cluster]', or leave the cluster out",
        ) from error
    # as a default it would stay behind, and every table written after it would ask it for a lock
    with dask.config.set(_SETTINGS):
        if address == LOCAL:
            with (
                _ended_quietly() as ending,
                LocalCluster(
                    n_workers=processes,
                    threads_per_worker=1,
                    # any free port: two runs on one machine do not meet, nor a third program
                    dashboard_address="127.0.0.1:0",
                ) as cluster,
                Client(cluster, set_as_default=False) as client,
            ):
                try:
                    yield Workers(client)
                finally:
                    ending()
                    if client.status == "running":
                        with suppress(OSError):
                            client.run(_quiet, on_error="ignore")
            return
        try:
            client = Client(address, timeout=_PATIENCE_S, set_as_default=False)
        except (OSError, ValueError, TypeError) as error:
            raise PkpdError(
                where=f"cluster {address}",
                what="no Dask scheduler answers there",
                allowed='an address such as tcp://host:8786, or "local"',
                remedy="start one with: dask scheduler, and workers with: dask worker ADDRESS",
            ) from error
        with client:
            if not client.nthreads():
                told = f"no worker has joined {address} yet: the work waits until one does"
                warnings.warn(told, PkpdWarning, stacklevel=4)
            yield Workers(client)


def _quiet() -> None:
    """Leave out what Dask says of this worker's end: that its scheduler has gone before it."""
    logging.getLogger("distributed").setLevel(logging.CRITICAL)


@contextmanager
def _ended_quietly() -> Iterator[Callable[[], None]]:
    """Leave out Dask's warnings from the call of what is yielded on; errors are told.

    On a busy machine workers end late and are killed, which Dask says of each.
    """
    log = logging.getLogger("distributed")
    level = log.level

    def ending() -> None:
        log.setLevel(max(level, logging.ERROR))

    try:
        yield ending
    finally:
        log.setLevel(level)
