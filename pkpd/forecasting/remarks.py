"""What a reader has to know of one patient's counts beside the forecast, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from pkpd.body import POSSIBLE
from pkpd.data.dataset import BELOW
from pkpd.forecasting.weighing import Weighed

_ADULT = 18.0  # years
_SIZES = {
    "weight": ("weight", "WT"),
    "height": ("height", "HT"),
    "crcl": ("creatinine clearance", "CRCL"),
}


def counts_in_words(weighed: Weighed) -> str:
    """Tell how many counts there are, and how many of them are used if that is not all."""
    n, used = weighed.counted, weighed.used
    counts = f"{n} count{'s' * (n != 1)}"
    return counts if used == n else f"{used} of {counts}"


def not_used(every: Iterable[Weighed]) -> Iterator[str]:
    """Name the lines that were counted and that the virtual patients do not have."""
    lacking: dict[str, int] = {}
    has: list[str] = []
    for weighed in every:
        has = list(weighed.bank.measured)
        for line in weighed.seen.line:
            if line not in has:
                lacking[line] = lacking.get(line, 0) + 1
    for line, n in lacking.items():
        name = line.upper() if line == "wbc" else line.replace("_", " ")
        counts = f"{n} count{'s' * (n != 1)}"
        yield f"{name} is not used by this marrow, which has {' and '.join(has)}: {counts} left out"


def set_aside(weighed: Weighed) -> Iterator[str]:
    """Name the counts that are left out, and how unlikely they are."""
    seen = weighed.seen
    limits = {(seen.line[k], float(seen.time[k])) for k in np.flatnonzero(seen.censored == BELOW)}
    for lost in weighed.unexplained:
        value = f"{lost.value:g} %" if lost.line == "marrow_blasts" else f"{lost.value:g} x 10^9/L"
        below = "below " * ((lost.line, lost.time) in limits)
        chance = (
            "fewer than 1 in a million"
            if lost.probability < 1e-6
            else (f"about 1 in {_rounded(1.0 / lost.probability):,}")
        )
        yield (
            f"no virtual patient explains {lost.line.replace('_', ' ')} of {below}{value} on day "
            f"{lost.day}: {chance} such patients would show a count as far out; it was left out"
        )


def remarks(weighed: Weighed) -> Iterator[str]:
    """Tell what else a reader has to know of the patient."""
    yield from _body_of_adults(weighed)


def _body_of_adults(weighed: Weighed) -> Iterator[str]:
    """Tell a child's weight, height and clearance where they are those of the population."""
    lanes = weighed.bank.lanes
    given = {*lanes.given, *(["crcl"] if "scr" in lanes.given else [])}
    if lanes.given.get("age", _ADULT) >= _ADULT or given.issuperset(_SIZES):
        return
    sample = lanes.sample(weighed.bank.who)
    lacking = [name for name in _SIZES if name not in given and name in sample.covariates]
    others = ", ".join(
        f"{_SIZES[name][0]} {np.median(sample[name]):.0f} {POSSIBLE[name][2]}" for name in lacking
    )
    yield (
        f"at an age of {lanes.given['age']:g} virtual patients have the population's {others} "
        f"(medians): give {', '.join(_SIZES[name][1] for name in lacking)}"
    )


def as_sentence(text: str) -> str:
    """Begin with a capital letter and end with a point."""
    return f"{text[0].upper()}{text[1:]}."


def _rounded(number: float) -> int:
    """Round to one digit that counts."""
    power = 10 ** int(np.floor(np.log10(max(number, 1.0))))
    return int(round(number / power) * power)
