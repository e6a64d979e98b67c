"""Texts, bytes and JSON changed at random: what a hand, a program or an attacker might make."""

from __future__ import annotations

import copy
import re
from random import Random

# ruff: noqa: RUF001  (signs that look like others are what is tried)
TOKENS = (
    *("", " ", "\n", "\r\n", "\t", "\0", "\ufeff", "\u2028", "é", "ﬀ", "−", "١", "😀", "\x1b[31m"),
    *("nan", "inf", "-inf", "NaN", "1e308", "-1e308", "1e400", "1e-320", "0", "-1", "-0.0", "1.5"),
    *("2147483648", "-9223372036854775809", "9" * 400, "9" * 5000, "1_000", "0x10", "1d5", "1,5"),
    "١٢",
    *("true", "null", "[]", "{}", "''", '""', '"', "'", '"""', "=", "#", ";", ",", ".", ":", "$"),
    *("(", ")", "[", "]", "[[", "{", "}", "(" * 300, "[" * 300, "-" * 300, "NOT " * 100, "**" * 9),
    *("=1+1", "@SUM(A1)", "<script>", "../../etc/passwd", "/dev/zero", "file:///etc/passwd"),
    *("%s%n", "{0}", "\\", "\\x00", "a" * 5000, "1-999999999", "1-21/0", "every 0 days", "1e9 mg"),
    *("mg", "mg/m^2", "kg^999", "10^9/L", "THETA(0)", "THETA(99999)", "EXP(EXP(9999))", "DADT(1)"),
    *("2026-13-45", "0000-00-00", "9999-12-31", "24:61", "-1 h", "nan mg", "inf days"),
)
NUMBER = re.compile(rb"-?\d+(\.\d+)?([eE][-+]?\d+)?")


def changed_bytes(data: bytes, random: Random) -> bytes:
    """Bytes with a few of them changed, cut or repeated."""
    out = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 5, 20))):
        if not out:
            return bytes(random.randbytes(random.randrange(200)))
        place = random.randrange(len(out))
        how = random.randrange(7)
        if how == 0:
            out[place] ^= 1 << random.randrange(8)
        elif how == 1:
            out[place] = random.choice((0, 255, 127, random.randrange(256)))
        elif how == 2:
            del out[place : place + random.choice((1, 4, 80, 1000))]
        elif how == 3:
            out[place:place] = random.randbytes(random.choice((1, 4, 80)))
        elif how == 4:
            size = random.choice((2, 4, 8))
            out[place : place + size] = random.choice((b"\0", b"\xff", b"\x7f")) * size
        elif how == 5:
            other = random.randrange(len(out))
            out[place:place] = out[other : other + random.choice((1, 16, 400))]
        else:
            del out[place:]
    return bytes(out)


def changed_text(data: bytes, random: Random, others: list[bytes]) -> bytes:
    """Text with lines, words and numbers changed, moved, repeated or taken from another."""
    out = data
    for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
        how = random.randrange(10)
        lines = out.split(b"\n")
        place = random.randrange(len(lines))
        token = random.choice(TOKENS).encode()
        if how == 0:
            numbers = list(NUMBER.finditer(out))
            if numbers:
                found = random.choice(numbers)
                out = out[: found.start()] + token + out[found.end() :]
        elif how == 1:
            words = list(re.finditer(rb"[\w.%/^-]+", out))
            if words:
                found, other = random.choice(words), random.choice(words)
                word = random.choice((token, other[0], found[0] * 2, found[0][:-1]))
                out = out[: found.start()] + word + out[found.end() :]
        elif how == 2:
            del lines[place]
            out = b"\n".join(lines)
        elif how == 3:
            lines.insert(random.randrange(len(lines)), lines[place])
            out = b"\n".join(lines)
        elif how == 4:
            other = random.randrange(len(lines))
            lines[place], lines[other] = lines[other], lines[place]
            out = b"\n".join(lines)
        elif how == 5:
            other = random.choice(others).split(b"\n")
            lines.insert(place, random.choice(other))
            out = b"\n".join(lines)
        elif how == 6:
            spot = random.randrange(len(out) + 1)
            out = out[:spot] + token + out[spot:]
        elif how == 7:
            out = out[: random.randrange(len(out) + 1)]
        elif how == 8:
            repeated = random.choice((2, 10, 200))
            lines[place:place] = [lines[place]] * min(repeated, 20_000 // (len(lines[place]) + 1))
            out = b"\n".join(lines)
        else:
            out = changed_bytes(out, random)
    return out[:300_000]


VALUES = (
    *(None, True, False, 0, -1, 1, 2**31, -(2**63), 10**30, 1.5, 1e308, -0.0, 1e-320),
    *("", "a", "\0", "1e400", "nan", "9" * 400, "=1+1", "<script>", "../../x", "a" * 5000),
    *([], {}, [[]], [None], {"a": None}, [[[[[[[[]]]]]]]], {"": ""}),
)


def changed_tree(value: object, random: Random) -> object:
    """JSON with leaves, keys and tables changed."""
    out = copy.deepcopy(value)
    for _ in range(random.choice((1, 1, 2, 4))):
        places: list[tuple[object, object]] = []
        inside = [out]
        while inside:
            one = inside.pop()
            keys = one.keys() if isinstance(one, dict) else range(len(one))
            for key in keys:
                places.append((one, key))
                if isinstance(one[key], dict | list):
                    inside.append(one[key])
        if not places:
            return out
        holder, key = random.choice(places)
        how = random.randrange(6)
        fresh = copy.deepcopy(random.choice((*VALUES, *TOKENS)))
        if how <= 1:
            holder[key] = fresh
        elif how == 2:
            del holder[key]
        elif how == 3:
            other, place = random.choice(places)
            try:
                holder[key] = copy.deepcopy(other[place])
            except (KeyError, IndexError):
                holder[key] = fresh
        elif how == 4 and isinstance(holder, dict):
            holder[str(random.choice((*TOKENS, key)))] = fresh
        elif isinstance(holder, list):
            holder.extend(copy.deepcopy(holder[:20]))
        else:
            holder[key] = [holder[key]] * 3
    return out
