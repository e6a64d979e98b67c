"""Blocks of work on the workers of a Dask scheduler, with their results in order.

A block is a function of one item. The function travels once to each worker, those that come later
too; a worker that is lost loses the block it was at, which another does again. As many blocks are
under way as the workers have threads, and as many wait: memory does not grow with their number.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import uuid
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

from pkpd.errors import PkpdError, PkpdWarning

T = TypeVar("T")
LOCAL = "local"
"""In place of an address: processes of this machine."""

# blocks share the cores already
_ENVIRONMENT = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
_KEPT = 4
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

        for number, result in self._done(function, items, out):
            found[number] = result
            while given in found:
                yield found.pop(given)
                given += 1

    def as_done(self, function: Callable[[Any], T], items: Sequence[Any]) -> Iterator[T]:
        """As `in_turn`, but in the order in which they are ready: for results that are kept."""
        for _, result in self._done(function, items, lambda _, under_way: under_way):
            yield result

    def _done(
        self,
        function: Callable[[Any], T],
        items: Sequence[Any],
        out: Callable[[int, int], int],
    ) -> Iterator[tuple[int, T]]:
        """Places and results as they are ready; ``out(sent, under way)`` blocks count as out."""
        import cloudpickle
        from distributed import CancelledError, wait

        packed = cloudpickle.dumps(function)
        key, plugin = hashlib.sha256(packed).hexdigest(), f"pkpd-{uuid.uuid4().hex}"
        # as a task or data of the scheduler it would be lost with the worker that holds it, and
        # the blocks of other workers, which depend on it, would be done again
        self.client.register_plugin(_bringer(packed, plugin), name=plugin)
        under_way: dict[Any, int] = {}
        sent = 0
        try:
            while sent < len(items) or under_way:
                most = 2 * self.threads  # workers come and go
                while sent < len(items) and out(sent, len(under_way)) < most:
                    future = self.client.submit(_do, plugin, key, items[sent], pure=False)
                    under_way[future] = sent
                    sent += 1
                # results are taken at once: one that waits on a worker is lost with it
                with self.client.as_current():
                    done: Any = wait(list(under_way), return_when="FIRST_COMPLETED")
                for future in done.done:
                    if future.status in ("lost", "pending"):  # its worker ended: another does it
                        continue
                    number = under_way.pop(future)
                    if future.status in ("error", "cancelled"):
                        _refuse(future)
                    yield number, future.result()
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


def _do(plugin: str, key: str, item: Any) -> Any:
    """Do one block; what the function compiled stays with the worker for the next."""
    import cloudpickle

    with _lock:
        function = _made.get(key)
        if function is None:
            function = cloudpickle.loads(_brought[plugin])
            result = function(item)  # alone: it compiles what the others use
            _made[key] = function
            while len(_made) > _KEPT:
                _made.popitem(last=False)
            return result
    return function(item)


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
            remedy='install "pkpd[cluster]", or leave the cluster out',
        ) from error
    # as a default it would stay behind, and every table written after it would ask it for a lock
    settings: Any = {"distributed.nanny.pre-spawn-environ": _ENVIRONMENT}
    with dask.config.set(settings):
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
