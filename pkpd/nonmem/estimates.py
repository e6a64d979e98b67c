"""``$THETA``, ``$OMEGA`` and ``$SIGMA``: starting values, bounds, blocks, what is held."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from pkpd.nonmem.records import Line, Record

INFINITE = 1e6
"""Bounds of this size are none, as in NONMEM."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([EeDd][+-]?\d+)?$")
_PIECE = re.compile(r"\s*(\(|\)|,|=|[^\s(),=]+)")


@dataclass(frozen=True)
class Theta:
    """A fixed effect: start, bounds, whether it is held, its comment, and its line's number."""

    value: float
    low: float = -INFINITE
    high: float = INFINITE
    held: bool = False
    label: str = ""
    line: int = field(default=0, compare=False)

    @property
    def bounded(self) -> tuple[bool, bool]:
        """Whether it has a lower and an upper bound."""
        return self.low > -INFINITE, self.high < INFINITE


@dataclass(frozen=True)
class Block:
    """A block of a covariance matrix.

    Attributes
    ----------
    covariance : float[K, K]
        Starting values. Covariances of 0 at the head of a row are held at 0: a band matrix.
    held
        Whether it is fixed.
    same
        Whether it has the values of the block before it.
    labels
        Comments of the variances.
    """

    covariance: np.ndarray
    held: bool
    same: bool = False
    labels: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Number of random effects."""
        return len(self.covariance)

    def apart(self, i: int, j: int) -> bool:
        """Whether the covariance ``(i, j)``, ``i > j``, is held at 0, as all before it in its row.

        Zeros at the head of row i are zeros of the Cholesky factor, and so of the partial
        correlations of its first columns, and the other way round.
        """
        return self.held or not np.any(self.covariance[i, : j + 1])


MOST = 1000
"""Effects of a kind, and so those that a record may repeat, and rows of a block."""


@dataclass(frozen=True)
class _Piece:
    text: str
    line: Line


def _pieces(record: Record) -> Iterator[_Piece]:
    for line in record.lines:
        at = 0
        while found := _PIECE.match(line.text, at):
            at = found.end()
            yield _Piece(found.group(1), line)


def number_of(text: str) -> float | None:
    """Return the number that a piece of a record is, if it is one."""
    if _NUMBER.match(text):
        return float(text.upper().replace("D", "E"))
    if text.upper() in ("INF", "+INF", "INFINITY"):
        return INFINITE
    if text.upper() in ("-INF", "-INFINITY"):
        return -INFINITE
    return None


def _held(text: str) -> bool:
    return len(text) >= 3 and "FIXED".startswith(text.upper())


class _Reader:
    """Pieces of a record, one after the other."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.pieces = list(_pieces(record))
        self.at = 0

    @property
    def next(self) -> _Piece | None:
        return self.pieces[self.at] if self.at < len(self.pieces) else None

    def take(self) -> _Piece:
        piece = self.next
        if piece is None:
            self.record.refuse("ends too soon", self.record.lines[-1])
        self.at += 1
        return piece

    def group(self, told: list[str] | None = None) -> list[_Piece]:
        """Pieces up to the closing bracket; the opening one has been taken.

        With ``told``, the end of the record closes a bracket that nothing else does, and a sentence
        on it is added there.
        """
        out: list[_Piece] = []
        while True:
            if told is not None and out and self.next is None:
                place = self.record.where(out[-1].line)
                told.append(f"{place}: a bracket is not closed; it is read as closed at the end")
                return out
            piece = self.take()
            if piece.text == ")":
                return out
            if piece.text == "(":
                self.record.refuse("has a bracket inside a bracket", piece.line)
            out.append(piece)

    def pass_names(self) -> None:
        """Pass over the labels of NAMES, see `pkpd.nonmem.subscripts.labelled`."""
        if self.next is not None and self.next.text == "(":
            self.take()
            self.group()

    def refuse(self, piece: _Piece) -> None:
        self.record.refuse(f"{piece.text!r} is not understood", piece.line)


def read_thetas(records: Sequence[Record], told: list[str] | None = None) -> list[Theta]:
    """Read all fixed effects in order.

    Parameters
    ----------
    records
        The records.
    told
        Sentences on slips that NM-TRAN reads over are added here: a bracket that is not closed
        before the record ends.

    Examples
    --------
    >>> record = Record("THETA", (Line(1, "(0, 3) 2 FIX (0,.1,1)x2", "CL"),), "run.mod")
    >>> [(t.low, t.value, t.held) for t in read_thetas([record])][:2]
    [(0.0, 3.0, False), (-1000000.0, 2.0, True)]
    """
    out: list[Theta] = []
    told = [] if told is None else told
    for record in records:
        reader = _Reader(record)
        lines: list[int] = []
        mine: list[Theta] = []
        while (piece := reader.next) is not None:
            reader.take()
            text = piece.text.upper()
            if text in (",", "ABORT", "NOABORT", "NOABORTFIRST", "UNINT"):
                continue
            if text.startswith(("NUMBERPOINTS", "NUMPOINTS", "NUMBERPTS")):
                reader.take()
                reader.take()
                continue
            if text == "NAMES":
                reader.pass_names()
                continue
            if text == "(":
                found, repeat = _bounded(reader, reader.group(told), piece)
            elif (value := number_of(text)) is not None:
                found, repeat = Theta(value), 1
            else:
                name = reader.next
                if name is not None and name.text == "=":  # CL = (0, 3)
                    reader.take()
                    continue
                reader.refuse(piece)
                return out
            after = reader.next
            if after is not None and _held(after.text):
                reader.take()
                found = Theta(found.value, found.low, found.high, True)
            if not found.low <= found.value <= found.high:
                record.refuse(
                    f"start {found.value:g} is outside its bounds {found.low:g} to {found.high:g}",
                    piece.line,
                )
            mine += [found] * repeat
            lines += [piece.line.number] * repeat
            _check_number(record, len(out) + len(mine), piece.line)
        comments = {line.number: line.comment for line in record.lines}
        for theta, line in zip(mine, lines, strict=True):
            label = comments[line] if lines.count(line) == 1 else ""
            out.append(replace(theta, label=label, line=line))
    return out


def _bounded(reader: _Reader, group: list[_Piece], opening: _Piece) -> tuple[Theta, int]:
    """Read ``(low, start, high FIX)`` with parts left out, and ``xN`` after it.

    Three values that are equal say FIX, too (NONMEM Help, $THETA).
    """
    record, held = reader.record, False
    slots: list[float | None] = [None]
    for piece in group:
        if _held(piece.text):
            held = True
        elif piece.text == ",":
            slots.append(None)
        else:
            value = number_of(piece.text)
            if value is None:
                reader.refuse(piece)
            if slots[-1] is not None:
                slots.append(None)
            slots[-1] = value
    if len(slots) > 1 and slots[-1] is None:
        slots.pop()
    repeat = 1
    after = reader.next
    if after is not None and re.match(r"[Xx]\d+$", after.text):
        reader.take()
        repeat = _count(reader, [float(after.text[1:])], after)
    if len(slots) == 1 and slots[0] is not None:
        return Theta(slots[0], held=held), repeat
    low = -INFINITE if slots[0] is None else max(slots[0], -INFINITE)
    high = INFINITE if len(slots) < 3 or slots[2] is None else min(slots[2], INFINITE)
    value = slots[1] if len(slots) > 1 else None
    if value is None or len(slots) > 3:
        record.refuse(
            "a fixed effect without a starting value",
            opening.line,
            allowed="start, (low, start), (low, start, high)",
            remedy="write a starting value; NONMEM searches one where it is left out",
        )
    return Theta(value, low, high, held or low == value == high), repeat


def read_blocks(records: Sequence[Record]) -> list[Block]:
    """Read a covariance matrix block by block.

    Examples
    --------
    >>> record = Record("OMEGA", (Line(1, "BLOCK(2) 0.09 0.01 0.04"),), "run.mod")
    >>> read_blocks([record])[0].covariance.round(6).tolist()
    [[0.09, 0.01], [0.01, 0.04]]
    """
    out: list[Block] = []
    for record in records:
        out += _one_record(record, out)
        _check_number(record, sum(len(block.covariance) for block in out))
    return out


_OPTIONS = {
    "STANDARD": "sd",
    "SD": "sd",
    "STDEV": "sd",
    "VARIANCE": "variance",
    "CORRELATION": "correlation",
    "CORRELATON": "correlation",
    "CORR": "correlation",
    "COVARIANCE": "covariance",
    "CHOLESKY": "cholesky",
}
_USUAL = ("VARIANCE", "COVARIANCE")  # what values are without a word


def _one_record(record: Record, before: Sequence[Block]) -> list[Block]:
    reader = _Reader(record)
    size: int | None = None
    same, block_held = 0, False
    forms: set[str] = set()
    numbers: list[tuple[float, bool, set[str], Line]] = []
    diagonal, early = True, None
    while (piece := reader.next) is not None:
        reader.take()
        text = piece.text.upper()
        if text in (",", "UNINT"):
            continue
        if len(text) >= 3 and ("BLOCK".startswith(text) or "DIAGONAL".startswith(text)):
            diagonal = not "BLOCK".startswith(text)
            if reader.next is not None and reader.next.text == "(":
                reader.take()
                size = _count(reader, _plain(reader, reader.group()), piece)
        elif text == "SAME":
            same = 1
            if reader.next is not None and reader.next.text == "(":
                reader.take()
                same = _count(reader, _plain(reader, reader.group()), piece)
        elif text == "VALUES":
            reader.take()
            given = _plain(reader, reader.group())
            if len(given) != 2:
                what = f"VALUES has {len(given)} numbers"
                record.refuse(what, piece.line, allowed="VALUES(diagonal, others)")
            first, second = given
            for i in range(size or 1):
                numbers += [(second, False, set(), piece.line)] * i + [
                    (first, False, set(), piece.line)
                ]
        elif text == "NAMES":
            reader.pass_names()
        elif _held(text):
            if numbers and diagonal:
                value, _, words, line = numbers[-1]
                numbers[-1] = (value, True, words, line)
            else:
                block_held, early = True, early or piece
        elif text in _OPTIONS:
            if numbers and diagonal:
                numbers[-1][2].add(_OPTIONS[text])
            else:
                forms.add(_OPTIONS[text])
                early = early if text in _USUAL else early or piece
        elif text == "(":
            found, held, words = _in_brackets(reader)
            if not diagonal:
                block_held, forms = block_held or held, forms | words
            for value in found:
                numbers.append((value, held, set(words), piece.line))
        elif (value := number_of(text)) is not None:
            numbers.append((value, False, set(), piece.line))
        elif reader.next is not None and reader.next.text == "=":
            reader.take()
        else:
            reader.refuse(piece)
    comments = {line.number: line.comment for line in record.lines}
    if diagonal:
        _refuse_diagonal(record, size, [one[0] for one in numbers], early)
        return [_single(record, one, comments) for one in numbers]
    if same:
        if not before:
            record.refuse("SAME without a block before it")
        last = before[-1]
        if size is not None and size != last.size:
            record.refuse(f"BLOCK({size}) SAME follows a block of {last.size}")
        return [Block(last.covariance, last.held, True) for _ in range(same)]
    held = block_held or any(one[1] for one in numbers)
    return [_full(record, numbers, size, held, forms, comments)]


def _in_brackets(reader: _Reader) -> tuple[list[float], bool, set[str]]:
    """Read values in brackets and ``xN`` after them, whether they are held, and in which forms."""
    words: set[str] = set()
    held, found = False, []
    for inner in reader.group():
        value = number_of(inner.text)
        if _held(inner.text):
            held = True
        elif inner.text.upper() in _OPTIONS:
            words.add(_OPTIONS[inner.text.upper()])
        elif value is not None:
            found.append(value)
        elif inner.text != ",":
            reader.refuse(inner)
    after = reader.next
    if after is not None and re.match(r"[Xx]\d+$", after.text):
        reader.take()
        found = found * _count(reader, [float(after.text[1:])], after)
    return found, held, words


def _refuse_diagonal(
    record: Record, size: int | None, values: Sequence[float], early: _Piece | None
) -> None:
    """Refuse options before the values of a diagonal, and another number of values than it says.

    Options are of the one value that they follow, or stand in brackets with (NONMEM Help, $OMEGA).
    """
    if early is not None:
        word = early.text
        record.refuse(
            f"{word} stands before the values of a diagonal, where it is of none of them",
            early.line,
            remedy="write it in brackets with each value that it is of: "
            + (" ".join(f"({value:g} {word})" for value in values[:3]) or f"(0.3 {word})"),
        )
    if size is not None and len(values) != size:
        count = "1 value" if len(values) == 1 else f"{len(values)} values"
        record.refuse(f"DIAGONAL({size}) has {count}", allowed=str(size))


def _check_number(record: Record, count: int, line: Line | None = None) -> None:
    """Refuse more effects of a kind than are read."""
    if count > MOST:
        record.refuse(f"more than {MOST} effects of its kind are given", line)


def _count(reader: _Reader, given: Sequence[float], piece: _Piece) -> int:
    """Return the only number, which says how many there are."""
    if len(given) != 1 or not 1 <= given[0] <= MOST or not given[0].is_integer():
        told = ", ".join(f"{one:g}" for one in given) or "no number"
        what = f"{piece.text.upper()} with {told}"
        reader.record.refuse(what, piece.line, allowed=f"one whole number from 1 to {MOST}")
    return int(given[0])


def _plain(reader: _Reader, group: list[_Piece]) -> list[float]:
    out = []
    for piece in group:
        value = number_of(piece.text)
        if value is not None:
            out.append(value)
        elif piece.text != ",":
            reader.refuse(piece)
    return out


def _single(
    record: Record, one: tuple[float, bool, set[str], Line], comments: dict[int, str]
) -> Block:
    value, held, words, line = one
    variance = value**2 if words & {"sd", "cholesky"} else value
    if not 0 <= variance < np.inf or (variance == 0 and not held):
        record.refuse(f"a variance of {variance:g}", line, allowed="more than 0, or 0 FIX")
    return Block(np.array([[variance]]), held, False, (comments.get(line.number, ""),))


def _positive(matrix: np.ndarray) -> bool:
    """Whether a matrix is a covariance, correlations of 1 included."""
    sd = np.sqrt(np.diag(matrix))
    if not (np.all(np.isfinite(matrix)) and np.all(sd > 0)):
        return False
    with np.errstate(over="ignore"):  # beside a tiny variance: no correlation at all
        correlation = matrix / sd[:, None] / sd[None, :]
    return bool(np.all(np.abs(correlation) < 2) and np.linalg.eigvalsh(correlation)[0] > -1e-8)


def _full(
    record: Record,
    numbers: list[tuple[float, bool, set[str], Line]],
    size: int | None,
    held: bool,
    forms: set[str],
    comments: dict[int, str],
) -> Block:
    count = len(numbers)
    n = size or 1
    if count != n * (n + 1) // 2:
        record.refuse(f"BLOCK({n}) has {count} values", allowed=f"{n * (n + 1) // 2}, row by row")
    matrix, labels, k = np.zeros((n, n)), [], 0
    for i in range(n):
        for j in range(i + 1):
            matrix[i, j] = numbers[k][0]
            k += 1
        labels.append(comments.get(numbers[k - 1][3].number, ""))
    for one in numbers:
        forms |= one[2]
    if "cholesky" in forms:
        matrix = matrix @ matrix.T
    else:
        diagonal = np.diag(matrix).copy()
        if np.any(diagonal < 0) and "sd" not in forms:
            record.refuse(f"a variance of {np.min(diagonal):g}", allowed="0 or more")
        sd = diagonal if "sd" in forms else np.sqrt(diagonal)
        off = np.tril(matrix, -1)
        if "correlation" in forms:
            off = off * sd[:, None] * sd[None, :]
        matrix = off + off.T + np.diag(sd**2)
    if np.any(matrix != 0) and not _positive(matrix):
        record.refuse(f"BLOCK({n}) is not positive definite", remedy="correct its values")
    if not held and record.name in ("OMEGA", "SIGMA"):
        _refuse_gaps(record, matrix)
    return Block(matrix, held, False, tuple(labels))


def _refuse_gaps(record: Record, matrix: np.ndarray) -> None:
    """Refuse covariances of 0 that stand after others in their row: no band matrix has them."""
    for i, row in enumerate(matrix):
        seen = np.flatnonzero(row[: i + 1])
        for j in range(int(seen[0]), i) if seen.size else ():
            if row[j] == 0:
                record.refuse(
                    f"the covariance ({i + 1},{j + 1}) of BLOCK({len(matrix)}) is 0 between "
                    "others, which no band matrix has",
                    allowed="zeros at the head of a row, which are held at 0",
                    remedy="write a small number where it is to be estimated, or order the effects "
                    "so that those without a covariance stand farthest apart",
                )
