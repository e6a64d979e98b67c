"""What ``pkpd search`` does: a menu file to sentence, tables, figure and files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pkpd.cards.menus import Limit
from pkpd.errors import writing
from pkpd.report.comparison.terminal import make_console, progress
from pkpd.search.result import NothingAllowedError
from pkpd.search.search import search_schedules
from pkpd.search.words import summary_of


def search_lines(menu: str, out: Path, *, limit: float | None = None, **how: Any) -> Iterator[str]:
    """Search a menu and tell what was found.

    Parameters
    ----------
    menu
        Menu file, schedule file, or name of a trial.
    out
        Folder of the results.
    limit
        Most risk of a DLT, instead of the menu's limits.
    **how
        Further arguments of `search_schedules`.

    Yields
    ------
    str
        A line.

    Raises
    ------
    NothingAllowedError
        If no schedule keeps the limits; the figures of all are written then, too.
    PkpdError
        If an input cannot be used.
    """
    limits = None if limit is None else (Limit("dlt", at_most=limit),)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()  # before the work
    with progress(make_console(), lines=True) as on_progress:
        try:
            found, nothing = (
                search_schedules(menu, limits=limits, on_progress=on_progress, **how),
                None,
            )
        except NothingAllowedError as error:
            found, nothing = error.found, error
    answer = found.answers[found.view]
    yield (
        f"{found.menu.title}: {len(found.members)} schedules, {found.menu.patients} patients, "
        f"{found.menu.draws} draws"
    )
    yield f"Simulated: {answer.simulated}."
    yield ""
    yield from summary_of(found).splitlines()
    yield ""
    yield f"written: {', '.join(str(path) for path in found.save(out))}"
    if nothing is not None:
        raise nothing
