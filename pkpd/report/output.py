"""Standard output that may go away: what cannot be printed is dropped, and the work goes on."""

from __future__ import annotations

import errno
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from pkpd.errors import PkpdWarning


class Output:
    """A text stream that keeps going when nobody reads it any more or its disk is full.

    Parameters
    ----------
    stream
        Where text goes. Signs that its encoding lacks are replaced.

    Attributes
    ----------
    problem
        Why printing ended, if it did.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.problem: OSError | None = None
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def closed_by_reader(self) -> bool:
        """Whether the reader of a pipe, such as ``head``, has seen enough."""
        return self.problem is not None and self.problem.errno == errno.EPIPE

    @property
    def reason(self) -> str:
        """Why printing ended, in words."""
        if self.closed_by_reader:
            return "its reader closed it"
        return "" if self.problem is None else str(self.problem.strerror or self.problem)

    def write(self, text: str) -> int:
        """Write, as long as it is possible."""
        if self.problem is None:
            try:
                self.stream.write(text)
            except OSError as error:
                self._end(error)
        return len(text)

    def flush(self) -> None:
        """Flush, as long as it is possible."""
        if self.problem is None:
            try:
                self.stream.flush()
            except OSError as error:
                self._end(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def _end(self, error: OSError) -> None:
        self.problem = error
        # what is still in the stream's buffer goes nowhere, instead of failing at exit
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.stream.fileno())
        os.close(nowhere)


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Show warnings of the package as what a command tells, without a line of its source."""
    usual = warnings.formatwarning

    def formatted(
        message: Any, category: Any, filename: str, lineno: int, line: str | None = None
    ) -> str:
        if isinstance(category, type) and issubclass(category, PkpdWarning):
            return f"pkpd: {message}\n"
        return usual(message, category, filename, lineno, line)

    warnings.formatwarning = formatted
    try:
        yield
    finally:
        warnings.formatwarning = usual


@contextmanager
def lasting_output() -> Iterator[Output | None]:
    """Make standard output one that may go away; ``None`` where there is none at all."""
    stream = sys.stdout
    if stream is None:
        yield None
        return
    output = Output(stream)
    sys.stdout = output  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield output
    finally:
        output.flush()
        sys.stdout = stream
