"""What this process may use: cores, threads, memory, and a folder for what can be made again."""

from __future__ import annotations

import atexit
import ctypes
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import date
from functools import lru_cache
from pathlib import Path

_ARENA_MAX = -8  # of ``mallopt`` in glibc
_OWN_GROUPS, _GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def cores() -> int:
    """Cores that this process may use, not all of the machine.

    Those it is bound to, and on Linux no more than the processor time of its container or job is
    worth (``docker run --cpus``, Kubernetes, SLURM), a part of a core as one. That time is read
    once: fits ask at every step, and its files take milliseconds behind a sandbox.
    """
    bound = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        bound = len(os.sched_getaffinity(0))
    return int(min(bound, _allowed(_OWN_GROUPS, _GROUPS)))


@lru_cache(maxsize=8)
def _allowed(own_groups: Path, groups: Path) -> float:
    """Cores that the time of this process is worth; infinite where it has no limit."""
    return min(
        (max(math.ceil(share), 1) for share in _quotas(own_groups, groups)), default=math.inf
    )


def _quotas(own_groups: Path, groups: Path) -> Iterator[float]:
    """Cores that the time of each control group around this process is worth, where it is limited.

    In a container groups are named as outside, or as inside: every folder on the way is looked at.
    """
    try:
        lines = own_groups.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):  # another system
        return
    for line in lines:
        _, _, rest = line.partition(":")
        kinds, _, own = rest.partition(":")
        home = groups
        if kinds:  # of the first version, a tree for each kind
            if "cpu" not in kinds.split(","):
                continue
            home = next((groups / n for n in (kinds, "cpu") if (groups / n).is_dir()), groups)
        inside = home / own.lstrip("/")
        for folder in (inside, *inside.parents):
            if folder == home or home in folder.parents:
                yield from _quota(folder)


def _quota(folder: Path) -> Iterator[float]:
    """Cores that the time of one control group is worth; nothing where it has no limit."""
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            told = " ".join((folder / name).read_text(encoding="utf-8") for name in names)
            quota, period = map(float, told.split())  # "max" where all may be used
        except (OSError, ValueError):
            continue
        if quota > 0.0 and period > 0.0 and math.isfinite(quota / period):
            yield quota / period


def threads() -> int:
    """Threads that a computation may use: ``NUMBA_NUM_THREADS`` (1 on workers), else cores."""
    given = os.environ.get("NUMBA_NUM_THREADS", "")
    return min(int(given), cores()) if given.isdigit() and int(given) else cores()


def cache_home() -> Path:
    """Return the folder of what may be made again: ``$XDG_CACHE_HOME/pkpd``, or below ``~/.cache``.

    Raises
    ------
    RuntimeError
        If there is neither.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "pkpd"


def lend_home() -> None:
    """Give this process a home until it ends, where there is none or no cache can be kept below it.

    PyMC, PyTensor and ArviZ ask for one when they are imported, and fail without.
    """
    with suppress(OSError, RuntimeError):
        Path.home()
        if _holds_files(cache_home().parent):
            return
    with suppress(OSError):  # no folder at all: what is imported says what it lacks
        os.environ["HOME"] = lent = tempfile.mkdtemp(prefix="pkpd-home-")
        atexit.register(shutil.rmtree, lent, ignore_errors=True)
        if not _holds_files(cache_home().parent):
            os.environ["XDG_CACHE_HOME"] = lent


def ready_for_pymc() -> None:
    """Prepare the import of PyMC and ArviZ: a home (`lend_home`), and the day of ArviZ's notice.

    ArviZ 0.23 tells once a day of its next version, and keeps the day in a file that it writes
    under one temporary name: of processes that import it at once, all but one may fail.
    """
    lend_home()
    with suppress(ImportError, OSError, RuntimeError):
        from platformdirs import user_cache_path  # as ArviZ does

        path, today = user_cache_path("arviz", "arviz") / "daily_warning", date.today().isoformat()
        if not path.is_file() or path.read_bytes().strip() != today.encode():
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=path.parent) as own:
                made = Path(own, path.name)
                made.write_text(today, encoding="utf-8")
                made.replace(path)


def _holds_files(folder: Path) -> bool:
    """Whether files can be made in a folder, which is made if it is not there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)


def share_memory() -> None:
    """Let all threads of this process take memory from one place.

    Some C libraries keep one for each thread, and what a thread frees there no other takes. For the
    start of a command that runs for long; it acts on the whole process.
    """
    _c("mallopt")(_ARENA_MAX, 1)


def give_back_memory() -> None:
    """Give the system back what is no longer used; some C libraries keep it for later."""
    _c("malloc_trim")(0)


@lru_cache(maxsize=8)
def _c(name: str) -> Callable[..., object]:
    """Give a function of the C library, or one that does nothing where there is none such."""
    try:
        return getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):  # another C library, or another system
        return lambda *_: 0
