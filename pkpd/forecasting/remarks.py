"""What a reader has to know of one patient's counts beside the forecast, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from pkpd.body import POSSIBLE
from pkpd.data.dataset import BELOW, NOT_CENSORED
from pkpd.ensemble.cards import CardsEnsemble
from pkpd.forecasting.doses import planned_doses
from pkpd.forecasting.measurement import Measurement
from pkpd.forecasting.weighing import Weighed, drawn_by

_ADULT = 18.0  # years
_SIZES = {
    "weight": ("weight", "WT"),
    "height": ("height", "HT"),
    "crcl": ("creatinine clearance", "CRCL"),
}

_RARELY = 1.0 / 30.0  # of patients: a rise as steep is none of counting
_SOON = 2.0  # days


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
        yield f"{name} is not used by this marrow, which has {', '.join(has)}: {counts} left out"


def set_aside(weighed: Weighed) -> Iterator[str]:
    """Name the counts that are left out, and how unlikely they are."""
    seen = weighed.seen
    limits = {seen.counts[k] for k in np.flatnonzero(seen.censored == BELOW)}
    for lost in weighed.unexplained:
        value = f"{lost.value:g} %" if lost.line == "marrow_blasts" else f"{lost.value:g} x 10^9/L"
        below = "below " * ((lost.line, lost.time, lost.value) in limits)
        chance = (
            "fewer than 1 in a million"
            if lost.probability < 1e-6
            else (f"about 1 in {_rounded(1.0 / lost.probability):,}")
        )
        yield (
            f"no virtual patient explains {lost.line.replace('_', ' ')} of {below}{value} on day "
            f"{lost.day}: {chance} such patients would show a count as far out; it was left out"
        )


def remarks(weighed: Weighed, measurement: Measurement) -> Iterator[str]:
    """Tell what else a reader has to know of the patient."""
    yield from _body_of_adults(weighed)
    if weighed.trusted:
        yield from _rising(weighed, measurement)


def _rising(weighed: Weighed, measurement: Measurement) -> Iterator[str]:
    """Tell that neutrophils rise after the last dose where the forecast has a fall.

    Platelets may rise by a transfusion, and so are not looked at.
    """
    seen, bank = weighed.heard, weighed.bank
    mine = [k for k, line in enumerate(seen.line) if line == "neutrophils"][-3:]
    if len(mine) < 2 or (seen.censored[mine[-1]] != NOT_CENSORED):
        return
    if len(mine) == 3 and seen.value[mine[0]] >= seen.value[mine[1]]:
        mine = mine[1:]
    first, last = float(seen.time[mine[0]]), float(seen.time[mine[-1]])
    rise = seen.value[mine[-1]] / seen.value[mine[0]]
    some = drawn_by(weighed.log_likelihood)
    given = [day - 1.0 for day, _ in planned_doses(bank.lanes.regimen)]
    treated = any(int(first) <= time < last + _SOON for time in given)
    if rise <= 1.0 or some is None or treated or last + _SOON > bank.days - 1:
        return
    before, now, soon = (
        bank.counted("neutrophils", time, some) for time in (first, last, last + _SOON)
    )
    error, rng = measurement.errors["neutrophils"], np.random.default_rng(1)
    low, high = (error.simulate(own, bank.who.draw[some], rng) for own in (before, now))
    if np.mean(high >= rise * low) >= _RARELY or np.median(soon / now) >= 1.0:
        return
    told = ", ".join(f"{seen.value[k]:g} on day {int(seen.time[k]) + 1}" for k in mine)
    source, remedy = bank.lanes.ensemble, ""
    if isinstance(source, CardsEnsemble) and source.population and source.population.disease:
        remedy = "; compare the marrow that learned from outcomes (leave marrow= or --marrow out)"
    yield (
        f"neutrophils rise ({told}) where the forecast has a fall, as they do by chance in fewer "
        f"than 1 in {1.0 / _RARELY:.0f} such patients: the forecast is likely late{remedy}"
    )


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
