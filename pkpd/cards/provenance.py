"""Where each value of a card comes from, and how well it is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from pkpd.cards.tables import Table
from pkpd.schedule import STATUSES


class Provenance(NamedTuple):
    """Source and status of one value.

    `given` is False where the card says nothing; `cohort` names the cohort that changed the value.
    """

    source: str
    status: str
    given: bool = True
    cohort: str = ""


def read_provenance(table: Table, keys: tuple[str, ...]) -> dict[str, Provenance]:
    """Source and status of each key of a table.

    ``source`` and ``status`` are one text for the whole table, or tables with one text for each
    key: ``status = { amount = "assumed", days = "read" }``. In the second form every key that has
    a value needs one.

    Parameters
    ----------
    table
        The table.
    keys
        The keys of `table` that have a value in the file.
    """
    sources = _per_key(table, "source", keys)
    statuses = _per_key(table, "status", keys)
    written = tuple(table.data)
    silent = f"as written in {table.file}"
    return {
        key: Provenance(
            sources.get(key, silent), statuses.get(key, "assumed"), given="status" in written
        )
        for key in keys
    }


def weakest(provenances: Mapping[str, Provenance]) -> tuple[str, str]:
    """Source text and least known status of several values."""
    if not provenances:
        return "", "assumed"
    texts = {p.source for p in provenances.values()}
    if len(texts) == 1:
        source = texts.pop()
    else:
        source = "; ".join(f"{key}: {p.source}" for key, p in provenances.items())
    return source, max((p.status for p in provenances.values()), key=STATUSES.index)


def _per_key(table: Table, name: str, keys: tuple[str, ...]) -> dict[str, str]:
    if name not in table:
        return {}

    def read(where: Table, key: str) -> str:
        return where.one_of(key, STATUSES) if name == "status" else where.text(key)

    if not isinstance(table.data[name], dict):
        text = read(table, name)
        return dict.fromkeys(keys, text)
    inner = table.table(name)
    found = {key: read(inner, key) for key in keys}
    inner.done()
    return found
