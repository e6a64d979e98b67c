"""Fits of a calibration one after the other, or over processes and machines with Dask."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from typing import Any

from pkpd.errors import PkpdError, sentence
from pkpd.fitting.calibration.one_fit import CalibrationFit, Trial

# one thread for each process: fits are many and small, and processes share the cores
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "NPROC": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
    "JAX_PLATFORMS": "cpu",
}
_made: dict[str, CalibrationFit] = {}


def results(
    trial: Trial, indices: Sequence[int], scheduler: str | None, workers: int
) -> Iterator[dict[str, Any]]:
    """Do fits and give their results as they come.

    Parameters
    ----------
    trial
        What the fits have in common.
    indices
        Which fits.
    scheduler
        Address of a running Dask scheduler whose workers have this package.
    workers
        Processes of a cluster on this machine, if no scheduler is given; with 1 the fits run in
        this process.

    Raises
    ------
    PkpdError
        If Dask is needed and not installed, or a function cannot be sent to other processes.
    """
    if not indices:
        return
    if scheduler is None and workers == 1:
        made = CalibrationFit(trial)
        for index in indices:
            yield made.run(index)
        return
    try:
        import cloudpickle
        import dask
        from distributed import Client, LocalCluster, as_completed
    except ImportError as error:
        raise PkpdError(
            sentence(
                where="calibrate",
                what="fits over several processes need Dask, which is not installed",
                remedy='install "pkpd[cluster]", or give workers=1',
            )
        ) from error
    packed = cloudpickle.dumps(trial)
    key = f"{hash(packed):x}"
    settings: Any = {"distributed.nanny.pre-spawn-environ": _ENVIRONMENT}
    with dask.config.set(settings):
        cluster: Any = scheduler or LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            dashboard_address=None,  # pyright: ignore[reportArgumentType]
        )
        with Client(cluster) as client:
            try:
                sent: Any = client.scatter(packed, broadcast=True)
                futures = [client.submit(_one, sent, key, index, pure=False) for index in indices]
                for future in as_completed(futures):
                    if future.status == "finished":
                        yield future.result()
                    else:
                        index = indices[futures.index(future)]
                        yield {
                            "index": index,
                            "failed": f"the process was lost ({future.exception()})",
                            "seconds": 0.0,
                        }
            finally:
                if scheduler is None:
                    cluster.close()


def _one(packed: bytes, key: str, index: int) -> dict[str, Any]:
    """Do a fit in another process; its compiled parts stay there for the next."""
    if key not in _made:
        _made.clear()
        _made[key] = CalibrationFit(pickle.loads(packed))
    return _made[key].run(index)
