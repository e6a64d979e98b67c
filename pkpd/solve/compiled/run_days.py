"""Patients through days: a marrow, its drugs and the cells of a day, made ready for the kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import Floats
from pkpd.errors import PkpdError
from pkpd.kinetics.linear import LinearPK
from pkpd.kinetics.saturable import SaturableIV
from pkpd.marrow.actions import Action
from pkpd.marrow.protocol import Marrow
from pkpd.schedule import Slot
from pkpd.schedule.amounts import SIZE_OF
from pkpd.solve.bridge.lanes import WIDTH
from pkpd.solve.compiled import program as pk
from pkpd.solve.compiled.chain import tape_size_of
from pkpd.solve.compiled.day_kinetics import FIXED, PER_KG, PER_M2, DayKinetics
from pkpd.solve.compiled.days import Care, DaySlots, Places, Record, days_range, new_block
from pkpd.solve.compiled.decisions import NEVER, Given, Rules, no_rules
from pkpd.solve.compiled.family import CORES
from pkpd.solve.compiled.space import work_space
from pkpd.solve.compiled.whole_plan import DRIFT_ROWS, course_programs, rest_of
from pkpd.solve.grid.cells import distinct_lengths

_FEWEST_BLOCKS = 4  # of a thread: below this, starting it costs more than it saves
_DAY = 24.0
_PER = {"surface": PER_M2, "weight": PER_KG, "": FIXED}


@dataclass(frozen=True)
class CourseDrug:
    """A drug of a course: its kinetics, and how its level or its rate of dosing acts.

    Without kinetics and with an action it acts by its dose per m² and day; without both it acts
    only through the further rates of a regimen, or not at all. Doses ``into`` a state of the marrow
    are added to it at their hour, each mg as its bioavailability says.
    """

    name: str
    pk: LinearPK | SaturableIV | None = None
    action: Action | None = None
    into: str = ""


@dataclass(frozen=True)
class Anatomy:
    """All that shapes a course; hashable, so that it is made ready once.

    Attributes
    ----------
    marrow
        The marrow.
    drugs, slots
        In the order of the dosing plan.
    further
        Actions that are driven by the further rates of the regimen, in their order.
    parameters
        Names of the rows of ``theta``.
    edges
        Edges of the cells of a day, hours from 0 to 24; starts and ends of doses are among them.
    curves
        What is followed within the day, besides the mornings.
    growth, growth_slot
        Growth factor by need: place among the further rates of what switches it on, or slot in
        which it is given; -1 for none.
    given_until
        Last protocol day on which anything is given, and on which a cycle may start. Anatomies that
        differ in it alone are equal: one program runs them.
    """

    marrow: Marrow
    drugs: tuple[CourseDrug, ...]
    slots: tuple[Slot, ...]
    further: tuple[Action, ...]
    parameters: tuple[str, ...]
    edges: tuple[float, ...]
    curves: tuple[str, ...] = ()
    growth: int = -1
    growth_slot: int = -1
    given_until: int = field(default=NEVER, compare=False)

    @property
    def kinetic_rows(self) -> tuple[tuple[str, str], ...]:
        """Drug and parameter of each row of the kinetic parameters; ``F`` is bioavailability."""
        return tuple(
            (drug.name, name)
            for drug in self.drugs
            for name in (*(drug.pk.parameters if drug.pk is not None else ()), "F")
        )

    @property
    def node_hours(self) -> Floats:
        """Hours of the day at which a curve has a value, without the morning."""
        return np.array(self.edges[1:])


@dataclass(frozen=True, eq=False)
class _Ready:
    """An anatomy as the kernel takes it."""

    programs: NDArray[np.int64]
    slots: DaySlots
    places: Places
    code: NDArray[np.int32]
    heads: NDArray[np.int32]
    lengths_h: Floats
    cell_length: NDArray[np.int64]
    infused: NDArray[np.int8]
    kinds: NDArray[np.int32]
    sizes: NDArray[np.int64]
    rest: Floats

    def scratch(self, parameters: int, kinetic: int) -> int:
        """Rows of work space that the kernel takes."""
        at = self.places
        own = at.states + self.rest.size + 1 + at.levels + max(at.observed, 2 * at.curves)
        own += self.heads.shape[0] + self.slots.drug.size + DRIFT_ROWS
        own += (at.kept + at.kept_at_rest) * self.lengths_h.size
        return parameters + kinetic + own + int(self.sizes.sum()) + 16


@lru_cache(maxsize=128)
def _ready(anatomy: Anatomy) -> _Ready:
    marrow, drugs = anatomy.marrow, anatomy.drugs
    actions = [*(drug.action for drug in drugs), *anatomy.further]
    drifting = {drug.pk for drug in drugs if isinstance(drug.pk, SaturableIV)}
    programs, equations, kept = course_programs(
        marrow, actions, anatomy.parameters, anatomy.curves,
        saturable=next(iter(drifting), None),
    )  # fmt: skip
    kinds = equations.places
    lengths, index = distinct_lengths(np.asarray(anatomy.edges))
    heads = np.zeros((len(drugs), pk.HEADER), dtype=np.int32)
    codes, offset, row = [], 0, 0
    coef, work, states, n_rates, widest = 0, 1, 0, 1, 1
    for k, drug in enumerate(drugs):
        names = (*(drug.pk.parameters if drug.pk is not None else ()), "F")
        own = {name: row + i for i, name in enumerate(names)}
        row += len(names)
        made = _kinetics(drug, own, marrow)
        head = pk.shift_code(made.header, offset)
        codes.append(made.code)
        offset += made.code.size
        if drug.pk is not None:
            n, slots = int(head[pk.N]), int(head[pk.SLOTS])
            by_moments = drug.action is not None and drug.action.driver == "moments"
            head[pk.MOMENTS], head[pk.AT_NODES] = by_moments, not by_moments
            size = 2 * (n + 1) if by_moments else 4 * (n + 1)
            head[pk.COEF_SIZE], head[pk.COEF_START] = slots + n + size, coef
            states, widest = states + n, max(widest, n)
        if isinstance(drug.pk, LinearPK):
            coef += int(head[pk.COEF_SIZE]) * lengths.size
            work = max(work, pk.tape_size(head), tape_size_of(int(head[pk.CHAIN])), 2 * n)
            n_rates = max(n_rates, int(head[pk.RATES]) + 1)
        heads[k] = head
    slots, infused = _slots(anatomy, index, lengths.size)
    seen = marrow.observed
    first = int(kinds[len(drugs), 1]) if anatomy.further else equations.n_levels
    names = list(marrow.states)
    platelets = ("platelets_with_transfused", "platelets")
    places = Places(
        transfused=names.index("transfused") if "transfused" in names else -1,
        neutrophils=seen.index("neutrophils") if "neutrophils" in seen else -1,
        platelets=next((seen.index(name) for name in platelets if name in seen), -1),
        blasts=seen.index("marrow_blasts") if "marrow_blasts" in seen else -1,
        rates=first,
        growth=anatomy.growth,
        growth_slot=anatomy.growth_slot,
        levels=equations.n_levels,
        states=len(names),
        observed=len(seen),
        curves=len(anatomy.curves),
        kept=kept[0],
        kept_at_rest=kept[1],
    )
    code = np.concatenate(codes) if codes else np.zeros(0, dtype=np.int32)
    return _Ready(
        programs, slots, places, code, heads, lengths, index.astype(np.int64), infused,
        kinds[: len(drugs)].copy(), np.array([work, coef, n_rates, states, widest], np.int64),
        rest_of(marrow),
    )  # fmt: skip


def _kinetics(drug: CourseDrug, row: dict[str, int], marrow: Marrow) -> pk.KineticProgram:
    """Index program of a drug; ``row`` of its kinetic parameters."""
    if drug.into:
        return pk.into_state_program(row, marrow.states.index(drug.into))
    if isinstance(drug.pk, SaturableIV):
        return pk.saturable_program(row, drug.pk.n_states)
    return pk.direct_kill_program(row) if drug.pk is None else pk.program(drug.pk, row)


def _slots(
    anatomy: Anatomy, index: NDArray[np.int64], n_lengths: int
) -> tuple[DaySlots, NDArray[np.int8]]:
    edges = np.asarray(anatomy.edges)
    infused = np.zeros((len(anatomy.drugs), n_lengths), dtype=np.int8)
    cell, cells = [], []
    for slot in anatomy.slots:
        drug = anatomy.drugs[slot.drug_index]
        kinetic = drug.pk is not None or bool(drug.into)
        first = int(np.abs(edges - slot.hour).argmin())
        last = int(np.abs(edges - (slot.hour + slot.duration_h)).argmin())
        exact = abs(edges[first] - slot.hour) < 1e-6
        exact &= abs(edges[last] - slot.hour - slot.duration_h) < 1e-6
        if kinetic and not exact:
            raise PkpdError(
                where=f"dose of {slot.drug}",
                what=f"it runs from {slot.hour:g} h for {slot.duration_h:g} h",
                allowed="doses that end on the day on which they begin",
                remedy="let an infusion that crosses midnight be two infusions",
            )
        if drug.into and slot.duration_h > 0.0:
            raise PkpdError(
                where=f"dose of {slot.drug}",
                what=f"an infusion over {slot.duration_h:g} h",
                allowed="a dose at once, which is added to the marrow's own states",
            )
        cell.append(first)
        cells.append(last - first if slot.duration_h > 0.0 else 0)
        if drug.pk is not None:
            infused[slot.drug_index, index[first:last]] = 1
    made = DaySlots(
        drug=np.array([slot.drug_index for slot in anatomy.slots], dtype=np.int64),
        cell=np.array(cell, dtype=np.int64),
        cells=np.array(cells, dtype=np.int64),
        duration_h=np.array([max(slot.duration_h, 1e-9) for slot in anatomy.slots]),
        per=np.array([_PER[SIZE_OF[slot.unit]] for slot in anatomy.slots], dtype=np.int64),
        cap_mg=np.array([slot.cap_mg for slot in anatomy.slots], dtype=np.float64),
        strength_mg=np.array([slot.strength_mg for slot in anatomy.slots], dtype=np.float64),
    )
    return made, infused


@dataclass(frozen=True)
class Bodies:
    """Numbers of L lanes for N patients.

    Attributes
    ----------
    theta : float[P, L]
        Parameters of marrow and actions.
    surface, weight : float[L]
        m², kg.
    increment : float[L]
        Rise of platelets by a transfusion, 10^9/L.
    kinetics : float[rows, N]
        Kinetic parameters by `Anatomy.kinetic_rows`.
    who : int[L]
        Patient of each lane.
    occasion : float[O, R, N]
        Factors of kinetic parameters by dosing day.
    occasion_rows : tuple of int
        The R rows of ``kinetics`` that they are of.
    """

    theta: Floats
    surface: Floats
    weight: Floats
    increment: Floats
    kinetics: Floats
    who: NDArray[np.int64]
    occasion: Floats | None = None
    occasion_rows: tuple[int, ...] = ()


def run_days(
    anatomy: Anatomy,
    bodies: Bodies,
    rules: Rules,
    days: int,
    *,
    transfuse_below: float = 10.0,
    growth_below: float = 0.0,
    growth_from: int = 1,
    growth_amount: float = 0.0,
    amounts: bool = False,
    threads: int | None = None,
) -> tuple[Record, Given]:
    """Simulate lanes through days.

    Parameters
    ----------
    anatomy
        Marrow, drugs and cells.
    bodies
        Numbers of the lanes.
    rules
        The regimen.
    days
        Days to simulate.
    transfuse_below
        Platelets are transfused on mornings with a count below this, 10^9/L.
    growth_below, growth_from, growth_amount
        Growth factor by need: on mornings with neutrophils below the first, from the second day on,
        in its slot the third, in the slot's unit.
    amounts
        Whether the amounts given each day are kept.
    threads
        At most so many; all cores by default. It does not change any number.

    Returns
    -------
    Record, Given
        What was observed (in the order of ``anatomy.marrow.observed``) and what was given.

    Raises
    ------
    PkpdError
        If a parameter is not finite, or a dose does not fit the cells of a day.
    """
    _check_numbers(anatomy, bodies)
    ready = _ready(anatomy)
    lanes, cells = bodies.theta.shape[1], ready.cell_length.size
    courses, drugs = rules.hold_below.shape[:2]
    occasion = bodies.occasion if bodies.occasion is not None else np.zeros((0, 0, 1))
    of_row = [row[0] for row in anatomy.kinetic_rows]
    names = [drug.name for drug in anatomy.drugs]
    kinetics = DayKinetics(
        code=ready.code,
        heads=ready.heads,
        theta=np.ascontiguousarray(bodies.kinetics),
        who=np.ascontiguousarray(bodies.who, dtype=np.int64),
        occasion=np.ascontiguousarray(occasion),
        occasion_row=np.array(bodies.occasion_rows, dtype=np.int64),
        occasion_drug=np.array([names.index(of_row[r]) for r in bodies.occasion_rows], np.int64),
        lengths_h=ready.lengths_h,
        cell_length=ready.cell_length,
        infused=ready.infused,
        places=ready.kinds,
        sizes=ready.sizes,
    )
    record = Record(
        morning=np.empty((ready.places.observed, lanes, days)),
        curve=np.empty((len(anatomy.curves), 2, lanes if anatomy.curves else 0, days * cells + 1)),
        transfused=np.zeros((lanes, days), dtype=np.bool_),
        amount=np.zeros((lanes if amounts else 0, days, len(anatomy.slots))),
        unsolved=np.zeros(lanes, dtype=np.bool_),
    )
    given = Given(
        first_day=np.zeros((lanes, courses), dtype=np.int64),
        cycles_started=np.zeros((lanes, courses), dtype=np.int64),
        doses_given=np.zeros((lanes, drugs), dtype=np.int64),
        full_doses=np.zeros((lanes, drugs)),
        next_cycle_day=np.empty((lanes, courses), dtype=np.int64),
        dosed=np.zeros((lanes, days), dtype=np.int64),
    )
    body = np.stack([bodies.surface, bodies.weight])
    care = Care(
        transfuse_below, growth_below, growth_from, anatomy.given_until, growth_amount,
        bodies.increment,
    )  # fmt: skip
    theta = np.ascontiguousarray(bodies.theta)

    size = ready.scratch(theta.shape[0], kinetics.theta.shape[0]) * WIDTH

    def run(first: int, stop: int) -> None:
        days_range(
            first, stop, ready.programs, theta, body, ready.rest, rules, ready.slots, kinetics,
            care, ready.places, work_space("days", size),
            new_block(rules, ready.slots, ready.heads), given, record,
        )  # fmt: skip

    pieces = _pieces(lanes, threads or CORES)
    if len(pieces) == 1:
        run(0, lanes)
    else:
        list(course_pool().map(lambda piece: run(*piece), pieces))
    return record, given


def at_start(marrow: Marrow, p: Mapping[str, Floats]) -> dict[str, Floats]:
    """Observe patients before any drug.

    Parameters
    ----------
    marrow
        The marrow.
    p
        Its parameters, ``[N]`` each.

    Returns
    -------
    dict
        By ``marrow.observed``, ``[N]`` each.
    """
    names = tuple(marrow.parameters)
    anatomy = Anatomy(marrow, (), (), (), names, (0.0, _DAY))
    theta = np.array([p[name] for name in names])
    one = np.ones(theta.shape[1])
    none = np.zeros((0, one.size))
    who = np.arange(one.size)
    bodies = Bodies(theta, surface=one, weight=one, increment=one, kinetics=none, who=who)
    record, _ = run_days(anatomy, bodies, no_rules(), 1)
    return dict(zip(marrow.observed, record.morning[:, :, 0], strict=True))


def _check_numbers(anatomy: Anatomy, bodies: Bodies) -> None:
    """Refuse parameters that are no numbers: a kernel would make plausible counts of them."""
    kinetic = [".".join(row) for row in anatomy.kinetic_rows]
    for names, values in ((anatomy.parameters, bodies.theta), (kinetic, bodies.kinetics)):
        if np.isfinite(values.sum()):
            continue
        row, column = (int(i) for i in np.argwhere(~np.isfinite(values))[0])
        raise PkpdError(
            where="patients",
            what=f"{names[row]} is {values[row, column]} in lane {column + 1}",
            allowed="a number",
            remedy="correct the parameters and covariates that it comes from",
        )


def _pieces(n: int, threads: int) -> Sequence[tuple[int, int]]:
    blocks = -(-n // WIDTH)
    share = max(-(-blocks // threads), _FEWEST_BLOCKS) * WIDTH
    return [(start, min(start + share, n)) for start in range(0, n, share)]


@lru_cache(maxsize=1)
def course_pool() -> ThreadPoolExecutor:
    """Threads that courses share; compiled courses run outside the interpreter's lock."""
    return ThreadPoolExecutor(CORES, thread_name_prefix="marrow")
