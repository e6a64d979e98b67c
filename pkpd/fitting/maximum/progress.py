"""Progress of a maximum likelihood fit, line by line."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

Progress = Callable[[int, float], None]
"""Called with the iteration and the objective."""

_EVERY_S = 5.0


class ProgressLines:
    """Writes lines on a search to the standard error stream, as the samplers do their bars.

    A fit of a few seconds writes none.

    Parameters
    ----------
    every_s
        Seconds before the first line and between lines.
    """

    def __init__(self, every_s: float = _EVERY_S) -> None:
        self.every_s = every_s
        self._began = self._last = time.monotonic()

    def __call__(self, iteration: int, objective: float) -> None:
        """Tell the iteration and the objective."""
        self._tell(f"iteration {iteration}, -2 log L {objective:.3f}")

    def approaching(self, iteration: int, objective: float) -> None:
        """Tell the step of the linearised model before a search, and the objective."""
        self._tell(f"towards a start, step {iteration}, -2 log L {objective:.3f}")

    def standard_errors(self, done: int, of: int) -> None:
        """Tell how many parameters have been moved for standard errors."""
        self._tell(f"standard errors, parameter {done} of {of}")

    def _tell(self, what: str) -> None:
        now = time.monotonic()
        if now - self._last < self.every_s:
            return
        self._last = now
        took = f"{now - self._began:.0f} s"
        print(f"maximum likelihood: {what}, {took}", file=sys.stderr, flush=True)  # noqa: T201
