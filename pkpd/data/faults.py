"""Faults of records, gathered so that one error names all of them."""

from __future__ import annotations

from collections.abc import Sequence

from pkpd.errors import DataError

_NAMED = 4


class Faults:
    """Sentences on records that have no meaning, one for each kind of fault."""

    def __init__(self) -> None:
        self._kinds: dict[object, tuple[str, list[object]]] = {}

    def add(self, kind: object, error: DataError, row: object) -> None:
        """Note a fault.

        Parameters
        ----------
        kind
            Faults of one kind share the sentence of the first.
        error
            The sentence about this record.
        row
            Its row, as a reader of the source counts.
        """
        self._kinds.setdefault(kind, (str(error), []))[1].append(row)

    def refuse(self) -> None:
        """Raise one error with all that was noted, if anything was.

        Raises
        ------
        DataError
            It names the first row of each kind of fault, and further rows after it.
        """
        if self._kinds:
            raise DataError(
                " ".join(text + _further(rows[1:]) for text, rows in self._kinds.values())
            )


def _further(rows: Sequence[object]) -> str:
    if not rows:
        return ""
    named = ", ".join(map(str, rows[:_NAMED]))
    more = f" and {len(rows) - _NAMED} more" if len(rows) > _NAMED else ""
    return f" The same in row{'s' if len(rows) > 1 else ''} {named}{more}."
