"""Trials simulated side by side: accrual, late toxicities, suspension, backfilling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr

from pkpd.arguments import CALLABLE, NONE, NUMBER, TEXT, a, check_arguments, from_to
from pkpd.cluster import Workers, workers
from pkpd.designs.data import Action, Trials, Why
from pkpd.designs.exact.characteristics import dataset, sides_of
from pkpd.designs.kinds import WHOLE, aimed_at, check_risks
from pkpd.designs.protocol import Design
from pkpd.designs.simulate.chance import DLT, GAP, RESPONSE, uniforms
from pkpd.designs.simulate.patients import (
    Accrual,
    EventTimes,
    Outcomes,
    Responses,
    RiskOutcomes,
)
from pkpd.designs.weights import WeightFunction, linear_weight
from pkpd.errors import PkpdError
from pkpd.machine import cores

_LANES = 20_000  # trials side by side
_BLOCKS = 4  # for each thread of a cluster, at least
_LOOKS = 40  # times in a window at which suspended accrual is looked at again
_ROUNDS = 100_000


def simulate_trials(
    design: Design,
    risks: Sequence[float] | np.ndarray | Outcomes,
    *,
    accrual: Accrual,
    times: EventTimes | None = None,
    weight: WeightFunction = linear_weight,
    responses: Responses | None = None,
    trials: int = 1000,
    seed: int = 1,
    target: float | None = None,
    cluster: str | None = None,
    jobs: int | None = None,
) -> xr.Dataset:
    """Operating characteristics by simulation, in calendar time.

    Parameters
    ----------
    design
        Any design. One that cannot decide with patients pending waits for them.
    risks
        True risks of a DLT, shape ``(levels,)`` or ``(draws, levels)``, or any source of outcomes.
    accrual
        How patients arrive.
    times
        When DLTs come; needed with risks.
    weight
        Weight of a pending patient by follow-up.
    responses
        For designs with backfilling.
    trials
        Simulated for each draw of the risks.
    seed
        Of all random numbers. With the same seed the patients of a trial come at the same
        intervals and are the same, whatever the design.
    target
        As in `characteristics`.
    cluster, jobs
        Address of a Dask scheduler whose workers simulate blocks of trials, or ``"local"`` for so
        many processes of this machine. The figures are the same.

    Returns
    -------
    xarray.Dataset
        What `characteristics` gives, and ``duration``, days from the first patient to the end of
        the last assessment, ``suspended``, days for which assessments kept another patient from
        entering (the follow-up of the last ones is not among them), and ``backfilled``, patients at
        each dose. Each ``name_se`` is the Monte Carlo standard error of ``name``. By ``draw``
        where risks have draws.

    Raises
    ------
    PkpdError
        If a risk is no probability, or the number of trials is below 2.

    Examples
    --------
    >>> from pkpd.designs import Accrual, EventTimes, RollingSix
    >>> found = simulate_trials(
    ...     RollingSix(levels=2), [0.1, 0.4], accrual=Accrual(10), times=EventTimes(28), trials=50
    ... )
    >>> round(float(found.none + found.selected.sum()), 9)
    1.0
    """
    check_simulation(
        "simulate_trials", design, accrual, times, weight, responses, trials, seed, target, cluster
    )
    aimed = aimed_at(design, target)
    outcomes, single = outcomes_of(design, risks, times, weight)
    with workers(cluster, jobs or cores()) as spread:
        ended = run_trials(design, outcomes, accrual, responses, trials, seed, spread)
    made = _summary(ended, outcomes.risks(), trials, aimed)
    return made.isel(draw=0, drop=True) if single else made


def check_simulation(
    where: str,
    design: Design,
    accrual: object,
    times: object,
    weight: object,
    responses: Responses | None,
    trials: int,
    seed: object,
    target: object,
    cluster: object,
) -> None:
    """Refuse arguments of a wrong kind, too few trials, and not one response rate for a dose."""
    check_arguments(
        where,
        design=(design, a(Design)),
        accrual=(accrual, a(Accrual, words="an Accrual, such as Accrual(every_days=10)")),
        times=(times, a(EventTimes, words="EventTimes(window_days=28) and the like") | NONE),
        weight=(weight, CALLABLE),
        responses=(responses, a(Responses, words="Responses(rates, times)") | NONE),
        trials=(trials, WHOLE),
        seed=(seed, from_to(0)),
        target=(target, NUMBER | NONE),
        cluster=(cluster, TEXT | NONE),
    )
    if trials < 2:
        what, allowed = f"{trials} trials", "2 or more, for a Monte Carlo error"
        raise PkpdError(where="trials", what=what, allowed=allowed)
    if responses is not None and len(responses.rates) != design.levels:
        what = f"{len(responses.rates)} rates for {design.levels} doses"
        raise PkpdError(where="responses", what=what, remedy="give one for each dose")


def run_trials(
    design: Design,
    outcomes: Outcomes,
    accrual: Accrual,
    responses: Responses | None,
    trials: int,
    seed: int,
    spread: Workers | None = None,
) -> Ended:
    """Run so many trials under each draw of the risks; those of the first draw come first.

    A trial's chances are those of its number, so it is the same in any block.
    """
    draw = np.repeat(np.arange(outcomes.draws), trials)
    block = _LANES if spread is None else -(-len(draw) // (_BLOCKS * spread.threads))
    block = min(max(block, 1), _LANES)

    def run(first: int) -> Ended:
        own = draw[first : first + block]
        return _Lanes(design, outcomes, accrual, responses, own, first, seed).run()

    firsts = range(0, len(draw), block)
    parts = [run(i) for i in firsts] if spread is None else list(spread.in_turn(run, firsts))
    return Ended(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def outcomes_of(
    design: Design,
    risks: Sequence[float] | np.ndarray | Outcomes,
    times: EventTimes | None,
    weight: WeightFunction,
) -> tuple[Outcomes, bool]:
    """Outcomes of risks or as they are given, and whether the risks have one draw alone."""
    if hasattr(risks, "enrol"):
        return risks, False  # type: ignore[return-value]
    values = check_risks(risks, design.levels)  # type: ignore[arg-type]
    if times is None:
        what, remedy = "it is not given", "say when DLTs come: EventTimes(window_days=28)"
        raise PkpdError(where="times", what=what, remedy=remedy)
    return RiskOutcomes(values, times, weight), np.ndim(risks) == 1  # type: ignore[arg-type]


@dataclass(frozen=True)
class Ended:
    """What trials have come to, one row each."""

    treated: np.ndarray
    dlts: np.ndarray
    backfilled: np.ndarray
    selected: np.ndarray
    why: np.ndarray
    duration: np.ndarray
    suspended: np.ndarray

    def __iter__(self):
        return (getattr(self, name) for name in self.__dataclass_fields__)


def _summary(ended: Ended, risks: np.ndarray, trials: int, target: float | None) -> xr.Dataset:
    """Means over the trials of each draw, and their Monte Carlo standard errors."""
    draws, levels = risks.shape
    reasons = [why for why in Why if why != Why.GOES_ON]
    picked = np.stack([ended.selected == j for j in range(levels + 1)], axis=1).astype(float)
    stopped = np.stack([ended.why == why for why in reasons], axis=1).astype(float)

    def each(values: np.ndarray) -> np.ndarray:
        return values.reshape(draws, trials, *values.shape[1:]).astype(float)

    def mean(values: np.ndarray) -> np.ndarray:
        return each(values).mean(axis=1)

    def error(values: np.ndarray) -> np.ndarray:
        return each(values).std(axis=1, ddof=1) / np.sqrt(trials)

    made = dataset(
        mean(picked), mean(ended.treated), mean(ended.dlts), mean(stopped), risks, target
    )
    by_level = ("draw", "level")
    made["selected_se"] = by_level, error(picked)[:, 1:]
    made["none_se"] = "draw", error(picked)[:, 0]
    made["stopped_se"] = ("draw", "why"), error(stopped)
    for name, values in (("treated", ended.treated), ("dlts", ended.dlts)):
        made[f"{name}_se"] = by_level, error(values)
    made["patients_se"] = "draw", error(ended.treated.sum(axis=1))
    made["all_dlts_se"] = "draw", error(ended.dlts.sum(axis=1))
    made["backfilled"] = by_level, mean(ended.backfilled)
    made["backfilled_se"] = by_level, error(ended.backfilled)
    for name, values in (("duration", ended.duration), ("suspended", ended.suspended)):
        made[name] = "draw", mean(values)
        made[f"{name}_se"] = "draw", error(values)
        for one in (name, f"{name}_se"):
            made[one].attrs["units"] = "day"  # ``days`` would be read as a length of time
    if target is not None:
        sides = np.repeat(sides_of(risks, target), trials, axis=0)
        above = sides > 0
        made["correct_se"] = "draw", error((picked[:, 1:] * (sides == 0)).sum(axis=1))
        made["too_high_se"] = "draw", error((picked[:, 1:] * above).sum(axis=1))
        # a ratio of means over trials, whose patients are a cluster: by its linear part
        share = np.repeat(made.overdosed.values, trials)[:, None]
        excess = (ended.treated * (above - share)).sum(axis=1)
        made["overdosed_se"] = "draw", error(excess) / made.patients.values
    made.attrs["trials"] = trials
    return made


class _Lanes:
    """Trials side by side, each with its own clock."""

    def __init__(
        self,
        design: Design,
        outcomes: Outcomes,
        accrual: Accrual,
        responses: Responses | None,
        draw: np.ndarray,
        first: int,
        seed: int,
    ) -> None:
        self.design, self.outcomes, self.accrual = design, outcomes, accrual
        self.responses, self.draw, self.seed = responses, draw, seed
        self.number = np.arange(first, first + len(draw))  # of the trials, for their chances
        count, room = len(draw), design.levels * 6 + (design.most_patients or 0) + 6
        self.level = np.zeros((count, room), np.int16)
        self.entry = np.zeros((count, room))
        self.dlt = np.full((count, room), np.inf)
        self.responded = np.full((count, room), np.inf)
        self.who = np.zeros((count, room), np.int64)
        self.cohort = np.zeros((count, room), np.int16)  # 0 for backfilled patients
        self.enrolled = np.zeros(count, int)
        self.came = np.zeros(count, int)  # patients who came before the present one
        self.clock = np.zeros(count)
        self.current = np.zeros(count, int)
        self.dropped = np.zeros(count, int)
        self.turn = np.zeros(count, int)
        self.left = np.zeros(count, int)  # patients the present cohort still lacks
        self.alive = np.ones(count, bool)
        self.suspended = np.zeros(count)
        self.waited = np.zeros(count)  # suspended if another patient enters, as backfilled too
        self.selected = np.zeros(count, int)
        self.why = np.zeros(count, int)

    def run(self) -> Ended:
        """Run every trial to its end."""
        for _ in range(_ROUNDS):
            asks = np.flatnonzero(self.alive & (self.left == 0))
            if len(asks):
                self._decide(asks)
            rows = np.flatnonzero(self.alive & (self.left > 0))
            if len(rows):
                self._enrol(rows, self.current[rows], self.turn[rows])
                self.left[rows] -= 1
                self._await(rows)
            if not self.alive.any():
                break
        else:
            what, remedy = "trials do not end", "check its rules for suspension"
            raise PkpdError(where=self.design.name, what=what, remedy=remedy)
        every = np.arange(len(self.draw))
        final = self._seen(every, np.full(len(every), np.inf))
        ends = self.entry + np.minimum(self.dlt, self.outcomes.window_days)
        duration = np.where(self.level > 0, ends, 0.0).max(axis=1)
        return Ended(
            final.treated,
            final.dlts,
            final.backfilled,
            self.selected,
            self.why,
            duration,
            self.suspended,
        )

    def _decide(self, asks: np.ndarray) -> None:
        """Ask the design; go on, suspend or stop."""
        data = self._seen(asks, self.clock[asks])
        waits = self.design.must_wait(data)
        if waits.any():
            late = np.flatnonzero(waits)
            self._suspend(asks[late], data.take(late))
            rest = np.flatnonzero(~waits)
            if not len(rest):
                return
            asks, data = asks[rest], data.take(rest)
        if self.design.keeps_out:
            out = self.design.dropped(data)
            self.dropped[asks] = np.where(out.any(axis=1), np.argmax(out, axis=1) + 1, 0)
            data = replace(data, dropped=self.dropped[asks])
        found = self.design.decide(data)
        suspends = found.action == Action.SUSPEND
        stops = found.action == Action.STOP
        goes = ~suspends & ~stops
        rows = asks[goes]
        if len(rows):
            chosen = found.level[goes]
            self.left[rows] = self.design.size(data.take(np.flatnonzero(goes)), chosen)
            self.current[rows] = chosen
            self.turn[rows] += 1
        if stops.any():
            self._stop(asks[stops], found.why[stops])
        if suspends.any():
            self._suspend(asks[suspends], data.take(np.flatnonzero(suspends)))

    def _stop(self, rows: np.ndarray, why: np.ndarray) -> None:
        """Follow everybody to the end of the window, and select."""
        final = self._seen(rows, np.full(len(rows), np.inf))
        found = self.design.decide(final)
        selected = self.design.recommend(final, found)
        self.selected[rows] = np.where(why == Why.TOO_TOXIC, 0, selected)
        self.why[rows] = why
        self.alive[rows] = False

    def _suspend(self, rows: np.ndarray, data: Trials) -> None:
        """Backfill the patient who is there, turn him away, or let him wait."""
        before = self.clock[rows].copy()
        level = self.design.backfill(data)
        takes = level > 0
        if takes.any():
            self._enrol(rows[takes], level[takes], np.zeros(int(takes.sum()), int))
        leaves = takes if self.accrual.patients_wait else np.ones_like(takes)
        if leaves.any():
            self._await(rows[leaves])
        stays = rows[~leaves]
        if len(stays):
            self.clock[stays] = self._next_event(stays)
        self.waited[rows] += np.where(takes, 0.0, self.clock[rows] - before)

    def _await(self, rows: np.ndarray) -> None:
        """Let the next patient come."""
        self.clock[rows] += self.accrual.gaps(self._chances(GAP, rows))
        self.came[rows] += 1

    def _chances(self, kind: int, rows: np.ndarray) -> np.ndarray:
        """Uniform numbers of the patients who are there."""
        return uniforms(self.seed, kind, self.number[rows], self.came[rows])

    def _next_event(self, rows: np.ndarray) -> np.ndarray:
        """When the next assessment ends, or a response comes, or weights have grown."""
        now, window = self.clock[rows], self.outcomes.window_days
        there = self.level[rows] > 0
        ends = self.entry[rows] + np.minimum(self.dlt[rows], window)
        events = np.where(there & (ends > now[:, None]), ends, np.inf).min(axis=1)
        if self.responses is not None:
            seen = self.responded[rows]
            later = np.where(there & (seen > now[:, None]), seen, np.inf).min(axis=1)
            events = np.minimum(events, later)
        if self.design.uses_pending:
            events = np.minimum(events, now + window / _LOOKS)
        return np.where(np.isfinite(events), events, now + window / _LOOKS)

    def _enrol(self, rows: np.ndarray, level: np.ndarray, cohort: np.ndarray) -> None:
        """Treat one more patient in each trial."""
        if self.enrolled[rows].max() >= self.level.shape[1]:
            self._make_room()
        place = (rows, self.enrolled[rows])
        self.level[place], self.entry[place], self.cohort[place] = level, self.clock[rows], cohort
        chances = self._chances(DLT, rows)
        self.dlt[place], self.who[place] = self.outcomes.enrol(chances, self.draw[rows], level)
        if self.responses is not None:
            days = self.responses.enrol(self._chances(RESPONSE, rows), level)
            self.responded[place] = self.clock[rows] + days
        self.enrolled[rows] += 1
        self.suspended[rows] += self.waited[rows]
        self.waited[rows] = 0.0

    def _make_room(self) -> None:
        for name, value in (
            ("level", 0),
            ("entry", 0),
            ("dlt", np.inf),
            ("responded", np.inf),
            ("who", 0),
            ("cohort", 0),
        ):
            old = getattr(self, name)
            grown = np.full((old.shape[0], 2 * old.shape[1]), value, old.dtype)
            grown[:, : old.shape[1]] = old
            setattr(self, name, grown)

    def _seen(self, rows: np.ndarray, now: np.ndarray) -> Trials:
        """Gather what trials know at a time of theirs."""
        used = max(1, int(self.enrolled[rows].max()))
        level = self.level[rows, :used]
        entry, window = self.entry[rows, :used], self.outcomes.window_days
        followed = now[:, None] - entry
        dlt = self.dlt[rows, :used]
        here = level > 0
        # by the sums that clocks are set to: a difference of days may fall short of the window
        had = here & (dlt <= window) & (entry + dlt <= now[:, None])
        waits = here & ~had & (now[:, None] < entry + window)
        cohort = self.cohort[rows, :used]
        latest = here & (cohort == self.turn[rows, None]) & (cohort > 0)
        spare = here & (cohort == 0)
        levels = self.design.levels
        shape = (len(rows), levels)
        treated, dlts, pending, backfilled, responses = (np.zeros(shape, int) for _ in range(5))
        weighed, least = np.zeros(shape), np.full(shape, np.inf)
        any_waits = waits.any()
        weight, part = np.zeros(level.shape), np.full(level.shape, np.nan)
        if any_waits:
            at = np.nonzero(waits)
            who = self.who[rows, :used][at]
            told = self.outcomes.weights(who, level[at], followed[at])
            (part if getattr(self.outcomes, "fractional", False) else weight)[at] = told
        answered = here & (self.responded[rows, :used] <= now[:, None])
        for j in range(levels):
            at_level = level == j + 1
            treated[:, j] = at_level.sum(axis=1)
            dlts[:, j] = (had & at_level).sum(axis=1)
            if self.responses is not None:
                backfilled[:, j] = (spare & at_level).sum(axis=1)
                responses[:, j] = (answered & at_level).sum(axis=1)
            if any_waits:
                waiting = waits & at_level
                pending[:, j] = waiting.sum(axis=1)
                weighed[:, j] = (weight * waiting).sum(axis=1)
                least[:, j] = np.where(waiting & np.isnan(part), weight, np.inf).min(axis=1)
        who_waits = _packed(waits, level, weight, part)
        return Trials(
            treated=treated,
            dlts=dlts,
            current=self.current[rows],
            pending=pending,
            followed=weighed,
            least_followed=least,
            pending_level=who_waits[0],
            pending_weight=who_waits[1],
            pending_fraction=who_waits[2],
            last_treated=latest.sum(axis=1),
            last_dlts=(had & latest).sum(axis=1),
            backfilled=backfilled,
            responses=responses,
            cohort_pending=(waits & latest).sum(axis=1),
            dropped=self.dropped[rows],
        )


def _packed(
    waits: np.ndarray, level: np.ndarray, weight: np.ndarray, part: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pending patients in the first columns, level 0 after them."""
    most = int(waits.sum(axis=1).max(initial=0))
    order = np.argsort(~waits, axis=1, kind="stable")[:, :most]
    there = np.take_along_axis(waits, order, axis=1)
    return (
        np.where(there, np.take_along_axis(level, order, axis=1), 0).astype(int),
        np.where(there, np.take_along_axis(weight, order, axis=1), 0.0),
        np.where(there, np.take_along_axis(part, order, axis=1), np.nan),
    )
