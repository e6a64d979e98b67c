"""Children of a process that end before their n-th change to the file system."""

from __future__ import annotations

import io
import os
import signal
import sys

from pkpd.errors import PkpdError

CHANGES = (
    *((os, name) for name in ("replace", "rename", "unlink", "mkdir", "rmdir")),
    (io, "open"),
)


def in_child(work):
    """Run in a fork; the signal that ended it, or its exit status."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except PkpdError as error:
            sys.stderr.write(f"{error}\n")
            os._exit(2)
        except BaseException as error:
            sys.stderr.write(f"{error!r}\n")
            os._exit(9)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def ended_before(n):
    """End this process before its n-th change to the file system."""
    seen = [0]

    def counted(original):
        def instead(*words, **named):
            seen[0] += 1
            if seen[0] > n:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*words, **named)

        return instead

    for module, name in CHANGES:
        setattr(module, name, counted(getattr(module, name)))
