"""Runs the patients of an arm, on all cores."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pkpd.course.course import Course
from pkpd.errors import PkpdError, sentence
from pkpd.kinetics.linear import LinearPK
from pkpd.leukaemia.drug_effects import PreparedRegimen, prepare_regimen
from pkpd.leukaemia.equations import PARAMETERS, STATES
from pkpd.leukaemia.parameters import Theta
from pkpd.leukaemia.schedule import ArmSchedule
from pkpd.marrow.actions import Action, GrowthFactor, Intensity, MaturationBlock, SaturableKill
from pkpd.marrow.leukaemic import LeukaemicMarrow
from pkpd.marrow.variants import FULL, Variant
from pkpd.schedule import Slot
from pkpd.solve.compiled.decisions import Rules
from pkpd.solve.compiled.run_days import Anatomy, Bodies, CourseDrug, run_days

Floats = NDArray[np.float64]

STEPS_PER_DAY = 6
"""Steps of 4 h; see ``docs/marrow_with_leukaemia.md`` for their error."""

_HOURS = 24.0
_ROW = {name: i for i, name in enumerate(PARAMETERS)}
# what the columns of the effects of a drug are: see `pkpd.leukaemia.drug_effects`
_CHEMOTHERAPY, _CLOFARABINE = (0, 1, 2, 3, 8, 9), 4
_LENALIDOMIDE, _FILGRASTIM, _PEGFILGRASTIM = 5, 6, 7
_INJURY = 3


def _blood_drug(kind: str, variant: Variant) -> CourseDrug:
    """Return a drug with kinetics of its own in this model."""
    if kind == "triphosphate":
        pk = LinearPK(None, 1, effect_site=True, unit="umol/L")
        return CourseDrug(kind, pk, SaturableKill("clo_"))
    pk = LinearPK(0, 1, unit="umol/L")
    return CourseDrug(kind, pk, _block(variant, "level"))


def _block(variant: Variant, driver: str) -> MaturationBlock:
    return MaturationBlock(
        "len_",
        linear=variant.effect == "linear",
        excess=variant.effect_above_one != "capped",
        driver="level" if driver == "level" else "rate",
        scale="" if driver == "level" else "len_per_mg",
    )


@lru_cache(maxsize=256)
def _anatomy(
    drugs: tuple[str, ...],
    kinetic: tuple[tuple[int, str], ...],
    variant: Variant,
    steps_per_day: int,
    injury: bool,
    pegfilgrastim: bool,
) -> Anatomy:
    """Anatomy of arms with the same drugs; ``kinetic`` names the drugs with kinetics, by index."""
    made = tuple(
        _blood_drug(dict(kinetic)[k], variant) if k in dict(kinetic) else CourseDrug(f"drug {k}")
        for k in range(len(drugs))
    )
    slots = tuple(Slot(drugs[k], k, 0.0, 0.0, "iv", "mg", np.inf, 0.0) for k, _ in kinetic)
    further: tuple[Action, ...] = (Intensity(), GrowthFactor())
    growth = 6
    if variant.exposure == "daily_mean":
        further = (Intensity(), _block(variant, "rate"), GrowthFactor())
        growth = 7
    return Anatomy(
        marrow=LeukaemicMarrow(variant, injury=injury, pegfilgrastim=pegfilgrastim),
        drugs=made,
        slots=slots,
        further=further,
        parameters=PARAMETERS,
        edges=tuple(np.linspace(0.0, _HOURS, steps_per_day + 1).tolist()),
        growth=growth,
        pegfilgrastim=growth + 1 if pegfilgrastim else -1,
    )


def simulate(
    schedule: ArmSchedule,
    theta: Theta,
    parameters: dict[str, Floats],
    state: Floats,
    variant: Variant = FULL,
    *,
    steps_per_day: int = STEPS_PER_DAY,
    threads: int | None = None,
) -> Course:
    """Simulate many patients under the schedule of an arm, morning by morning.

    Parameters
    ----------
    schedule
        What is given, with gates, holds and reductions by each patient's own counts.
    theta
        Global parameters, for the intensities of drugs.
    parameters
        Parameters of the patients, arrays ``[N]`` by the names of
        `pkpd.leukaemia.equations.PARAMETERS`.
    state
        ``[states, N]`` at the start (`pkpd.leukaemia.equations.initial_state`).
    variant
        Mechanisms that are on.
    steps_per_day
        6 (4 h) or 4 (6 h).
    threads
        At most so many; all cores by default. It does not change any number.

    Returns
    -------
    Course
        On mornings. A patient's row does not depend on the others.

    Raises
    ------
    PkpdError
        If a drug is unknown or a parameter is not finite.
    """
    par = as_rows(parameters)
    return simulate_prepared(
        prepare_regimen(schedule), schedule, theta, par, np.ascontiguousarray(state), variant,
        steps_per_day=steps_per_day, threads=threads,
    )  # fmt: skip


def as_rows(parameters: dict[str, Floats]) -> Floats:
    """Parameters of patients as an array ``[P, N]`` in the order of `PARAMETERS`.

    Raises
    ------
    PkpdError
        If one is not finite.
    """
    par = np.array([parameters[name] for name in PARAMETERS])
    if not np.isfinite(par).all():
        bad = [
            name for name, row in zip(PARAMETERS, par, strict=True) if not np.isfinite(row).all()
        ]
        msg = sentence(
            where="patients of an arm",
            what=f"parameters that are no numbers: {', '.join(bad)}",
            remedy="correct the global parameters they come from",
        )
        raise PkpdError(msg)
    return par


def simulate_prepared(
    regimen: PreparedRegimen,
    schedule: ArmSchedule,
    theta: Theta,
    par: Floats,
    state: Floats,
    variant: Variant,
    *,
    steps_per_day: int = STEPS_PER_DAY,
    threads: int | None = None,
    death_score: Floats | None = None,
) -> Course:
    """`simulate` with the regimen of the schedule prepared and the parameters as rows.

    Parameters
    ----------
    regimen
        Of `schedule` (`pkpd.leukaemia.drug_effects.prepare_regimen`); its horizon may be longer.
    schedule, theta, variant, steps_per_day, threads
        As `simulate`.
    par
        ``[P, N]`` as `as_rows` gives it.
    state
        ``[states, N]``; both in C order.
    death_score
        ``[N]`` uniform numbers that decide the day of death; without them nobody dies.
    """
    tables, made = regimen.at(theta), regimen.made
    effect = tables.effect
    n = par.shape[1]
    oral = variant.exposure == "oral"
    columns = [(_CLOFARABINE, "triphosphate"), *([(_LENALIDOMIDE, "oral")] if oral else [])]
    kinetic = tuple(
        (k, kind)
        for k in range(effect.shape[2])
        for column, kind in columns
        if effect[:, :, k, column].any()
    )
    anatomy = _anatomy(
        made.drugs if made is not None else (),
        kinetic,
        variant,
        steps_per_day,
        bool(effect[..., _INJURY].any()),
        bool(effect[..., _PEGFILGRASTIM].any()),
    )
    rates = [effect[..., c] for c in _CHEMOTHERAPY]
    rates += [] if oral else [effect[..., _LENALIDOMIDE]]
    rates += [effect[..., _FILGRASTIM]]
    rates += [effect[..., _PEGFILGRASTIM]] if anatomy.pegfilgrastim >= 0 else []
    column_of = {"triphosphate": _CLOFARABINE, "oral": _LENALIDOMIDE}
    amount = [effect[:, :, k, column_of[kind]] for k, kind in kinetic]
    none = np.zeros((*effect.shape[:2], 0))
    rules = Rules(
        amount=np.ascontiguousarray(np.stack(amount, axis=-1) if amount else none),
        rates=np.ascontiguousarray(np.stack(rates, axis=-1)),
        given=tables.given,
        slot_drug=np.array([k for k, _ in kinetic], dtype=np.int64),
        **{
            name: getattr(tables, name)
            for name in Rules._fields
            if name not in ("amount", "rates", "given", "slot_drug")
        },
    )
    own = _kinetics(par, anatomy)
    bodies = Bodies(
        theta=par,
        start=_start(state, anatomy),
        surface=np.ones(n),
        weight=np.ones(n),
        increment=np.ascontiguousarray(par[_ROW["increment"]]),
        kinetics=own,
        who=np.arange(n),
    )
    policy = schedule.growth_factor
    record, given = run_days(
        anatomy, bodies, rules, schedule.horizon_days,
        transfuse_below=schedule.transfuse_below, growth_below=policy.below,
        growth_from=policy.from_day, threads=threads,
    )  # fmt: skip
    seen = dict(zip(anatomy.marrow.observed, record.morning, strict=True))
    names = ((), ()) if made is None else (made.drugs, made.course_names)
    lines = {line: seen.pop(line) for line in ("neutrophils", "platelets")}
    return Course(
        mornings=lines,
        **seen,
        transfused=record.transfused,
        **given._asdict(),
        drugs=names[0],
        course_names=names[1],
        death_score=death_score,
    )


def _kinetics(par: Floats, anatomy: Anatomy) -> Floats:
    """Kinetic parameters of the patients: rates per hour, levels in umol/L."""

    def row(name: str) -> Floats:
        return par[_ROW[name]]

    one = np.ones(par.shape[1])
    values = {
        "triphosphate": {
            "CL": row("k_tp_in") / _HOURS, "V1": one, "k_in": row("k_tp_in") / _HOURS,
            "k_out": row("k_tp") / _HOURS, "per_umol": row("tp_per_dose"), "F": one,
        },
        "oral": {
            "CL": row("len_ke") / _HOURS, "V1": one, "ka": row("len_ka") / _HOURS,
            "per_umol": row("len_per_mg") * row("len_ke"), "F": one,
        },
    }  # fmt: skip
    found = [values.get(drug, {"F": one})[name] for drug, name in anatomy.kinetic_rows]
    return np.array(found).reshape(len(found), par.shape[1])


def _start(state: Floats, anatomy: Anatomy) -> Floats:
    """States of the marrow among those of the written-out equations."""
    return np.ascontiguousarray(state[[STATES.index(name) for name in anatomy.marrow.states]])
