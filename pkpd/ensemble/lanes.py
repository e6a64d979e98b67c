"""Virtual patients one by one: each with a draw of its own, and with scores that can be given.

A crossed ensemble lets every draw meet every patient. Learning from one patient's counts needs the
opposite: many different patients, each under one draw, whose standard normal scores are known, so
that a patient can be simulated again with others. `lanes_of` makes that of every source.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from pkpd.arrays import Floats, Indices
from pkpd.body import (
    body_surface_area_du_bois,
    complete_covariates,
    creatinine_clearance_cockcroft_gault,
)
from pkpd.course.course import Course
from pkpd.course.simulate import Simulator
from pkpd.distributions import stratified_normals, stream
from pkpd.ensemble.cards import CardsEnsemble
from pkpd.ensemble.ensemble import Ensemble, Treated
from pkpd.ensemble.fitted import FittedEnsemble
from pkpd.ensemble.fitted_drugs import FittedRegimen
from pkpd.ensemble.learned import LearnedEnsemble
from pkpd.errors import PkpdError
from pkpd.leukaemia.patients import SCORES, Candidates, Who
from pkpd.leukaemia.schedule import Arm
from pkpd.leukaemia.simulate import Lanes as ArmLanes
from pkpd.leukaemia.simulate import PreparedArm, prepare_arm
from pkpd.schedule import DosingPlan, Regimen
from pkpd.subjects import PatientSample, Population, covariates_at

LANES_AT_ONCE = 2000
FOLLOWED = ("neutrophils", "platelets")
"""Lines that are followed between mornings where recovery is wanted to the hour."""
_FOLLOW_FROM = {
    "bsa": {"weight", "height"},
    "bmi": {"weight", "height"},
    "ffm": {"weight", "height", "male"},
    "crcl": {"age", "weight", "male", "scr"},
    "scr_umol_L": {"scr", "crcl"},
}
_Ready = TypeVar("_Ready", Simulator, FittedRegimen, ArmLanes)
_ROUNDS = 200  # of drawing patients anew who are not eligible


@dataclass(frozen=True)
class Identities:
    """Who L virtual patients are: all that differs between them.

    Attributes
    ----------
    draw : int[L]
        Draw of what is not known that each one meets.
    body : int[L]
        Which of the source's given bodies each one has; not used where bodies have scores.
    scores : float[L, R]
        Independent standard normal scores: of bodies, of individual effects, of occasions.
    """

    draw: Indices
    body: Indices
    scores: Floats

    def __len__(self) -> int:
        """Return the number of patients."""
        return len(self.draw)

    def __getitem__(self, index: Any) -> Identities:
        """Take some of them."""
        return Identities(self.draw[index], self.body[index], self.scores[index])


@dataclass(frozen=True)
class ScoredSample(PatientSample):
    """Patients whose normal scores are given by name."""

    given: Mapping[str, Floats] = field(default_factory=dict)

    def normal_score(self, name: str) -> Floats:
        """See `pkpd.subjects.PatientSample`."""
        return self.given[name]

    def occasion_score(self, name: str, occasion: int) -> Floats:
        """See `pkpd.subjects.PatientSample`."""
        return self.given[_of_occasion(name, occasion)]

    def part(self, index: Indices) -> ScoredSample:
        """Take some of the patients with their scores."""
        return replace(
            self,
            covariates=MappingProxyType({k: v[index] for k, v in self.covariates.items()}),
            given={k: v[index] for k, v in self.given.items()},
        )


@dataclass(frozen=True)
class _Asked(PatientSample):
    """A sample that notes which scores it is asked for."""

    names: dict[str, None] = field(default_factory=dict)

    def normal_score(self, name: str) -> Floats:
        self.names[name] = None
        return np.zeros(self.n)

    def occasion_score(self, name: str, occasion: int) -> Floats:
        self.names[_of_occasion(name, occasion)] = None
        return np.zeros(self.n)


def _of_occasion(name: str, occasion: int) -> str:
    return f"{name}, occasion {occasion}"


@dataclass(frozen=True, eq=False)
class _Kind:
    """What a kind of source adds: its draws, its bodies, and how its patients are simulated.

    ``treated`` makes some of them ready, from their sample, own scores, draws, regimen and days;
    ``own`` is how many scores of its own come without a name.
    """

    draws: int
    bodies: Population | PatientSample
    treated: Callable[
        [PatientSample, Floats, Indices, Regimen, int], _CardLanes | _FitLanes | _PosteriorLanes
    ]
    own: int = 0


@dataclass(frozen=True, eq=False)
class Lanes:
    """Patients of a source one by one under a regimen.

    Attributes
    ----------
    ensemble
        The source.
    regimen, days
        What is given, and days to simulate.
    given
        Covariates that are known and the same for all, by name (`pkpd.subjects`).
    names
        Of the scores of individual effects and occasions, in their order.
    plan
        Dosing plan of the regimen.
    given_until
        Last protocol day on which anything is given, growth factor by need too; as the regimen says
        if ``None``.
    """

    ensemble: Ensemble
    regimen: Regimen
    days: int
    given: Mapping[str, float]
    names: tuple[str, ...]
    plan: DosingPlan
    given_until: int | None = None

    @cached_property
    def _kind(self) -> _Kind:
        return _kind_of(self.ensemble)

    @property
    def draws(self) -> int:
        """Number of draws of what is not known."""
        return self._kind.draws

    @property
    def body_scores(self) -> int:
        """How many of the scores belong to bodies; they come first."""
        bodies = self._kind.bodies
        return len(bodies.covariates) if isinstance(bodies, Population) else 0

    @property
    def size(self) -> int:
        """Number of scores R of a patient."""
        return self.body_scores + self._kind.own + len(self.names)

    @property
    def _scores(self) -> tuple[str, ...]:
        """Names of all scores; those of bodies and of the kind are numbers."""
        return (*map(str, range(self.size - len(self.names))), *self.names)

    def eligible(self, scores: Floats) -> NDArray[np.bool_]:
        """Whether patients with these scores, ``[L, R]``, are possible and eligible, ``[L]``."""
        bodies = self._kind.bodies
        if isinstance(bodies, PatientSample):
            return np.ones(len(scores), dtype=bool)
        return covariates_at(bodies, scores[:, : self.body_scores])[1]

    @property
    def middle_body(self) -> int:
        """Which given body is nearest to the medians of all, in units of their spreads."""
        bodies = self._kind.bodies
        if not isinstance(bodies, PatientSample):
            return 0  # bodies have scores
        far = np.zeros(bodies.n)
        for values in bodies.covariates.values():
            if (spread := float(np.std(values))) > 0.0:
                far += ((values - np.median(values)) / spread) ** 2
        return int(np.argmin(far))

    def drawn(self, n: int, seed: int) -> Identities:
        """Draw patients, the draws shared out evenly and in order.

        The same patients are drawn under every regimen: scores depend on their names alone.

        Raises
        ------
        PkpdError
            If hardly anybody is eligible.
        """
        scores = np.stack(
            [stratified_normals(stream(seed, f"lanes:{name}"), n) for name in self._scores], axis=1
        ).reshape(n, self.size)
        first, rng = self.body_scores, stream(seed, "lanes:eligible")
        out = np.flatnonzero(~self.eligible(scores))
        for _ in range(_ROUNDS):
            if not out.size:
                break
            scores[out, :first] = rng.standard_normal((out.size, first))
            out = out[~self.eligible(scores[out])]
        if out.size:
            bodies = self._kind.bodies
            assert isinstance(bodies, Population)
            raise PkpdError(
                where=f"population '{bodies.name}'",
                what="hardly any patient that is drawn meets the eligibility limits",
                remedy="widen the limits",
            )
        bodies = self._kind.bodies
        have = bodies.n if isinstance(bodies, PatientSample) else 1
        body = stream(seed, "lanes:body").permutation(np.arange(n) % have)
        return Identities(np.arange(n) * self.draws // n, body, scores)

    def sample(self, who: Identities) -> ScoredSample:
        """Patients as samples have them: covariates, and scores by name."""
        bodies, first = self._kind.bodies, self.body_scores + self._kind.own
        if isinstance(bodies, Population):
            covariates = covariates_at(bodies, who.scores[:, : self.body_scores])[0]
        else:
            covariates = {name: v[who.body] for name, v in bodies.covariates.items()}
        named = dict(zip(self.names, who.scores.T[first:], strict=True))
        return ScoredSample(
            _name(bodies),
            0,
            MappingProxyType(_with_given(covariates, self.given)),
            given={name: np.ascontiguousarray(v) for name, v in named.items()},
        )

    def treated(self, who: Identities) -> Treated:
        """Make patients ready; its "draws" are places among them."""
        first = self.body_scores
        own = who.scores[:, first : first + self._kind.own]
        made = self._kind.treated(self.sample(who), own, who.draw, self.regimen, self.days)
        return made if self.given_until is None else replace(made, given_until=self.given_until)


def lanes_of(
    ensemble: Ensemble, regimen: Regimen, days: int, given: Mapping[str, float] | None = None
) -> Lanes:
    """Patients of a source one by one under a regimen.

    Parameters
    ----------
    ensemble
        From `pkpd.source`. Its number of patients does not matter: as many as are wanted are drawn
        from its population; bodies that were given are taken in turn.
    regimen, days
        What is given, and days to simulate.
    given
        Covariates that are known and the same for all.

    Raises
    ------
    PkpdError
        If the source cannot give a drug, or is of a kind that cannot be taken apart.
    """
    kind, given = _kind_of(ensemble), dict(given or {})
    bodies, one = kind.bodies, np.zeros(1, dtype=np.int64)
    if isinstance(bodies, Population):
        covariates = covariates_at(bodies, np.zeros((1, len(bodies.covariates))))[0]
    else:
        covariates = {name: v[one] for name, v in bodies.covariates.items()}
    asked = _Asked(_name(bodies), 0, MappingProxyType(_with_given(covariates, given)))
    treated = kind.treated(asked, np.zeros((1, kind.own)), one, regimen, days)
    for index in treated.chunks():
        treated.course(index)
    return Lanes(ensemble, regimen, days, given, tuple(asked.names), treated.plan)


def carried(who: Identities, before: Lanes, after: Lanes, seed: int) -> Identities:
    """Take the same patients for another regimen: scores by name, further ones are drawn."""
    if before.regimen is after.regimen:
        return who
    first = before.size - len(before.names)
    place = {name: first + i for i, name in enumerate(before.names)}
    columns = [who.scores[:, :first]]
    for name in after.names:
        if name in place:
            columns.append(who.scores[:, [place[name]]])
        else:
            rng = stream(seed, f"lanes:{name}")
            columns.append(rng.standard_normal((len(who), 1)))
    return Identities(who.draw, who.body, np.concatenate(columns, axis=1))


def _name(bodies: Population | PatientSample) -> str:
    return bodies.name if isinstance(bodies, Population) else bodies.population


def _with_given(covariates: Mapping[str, Floats], given: Mapping[str, float]) -> dict[str, Floats]:
    """Covariates with those that are known in their place, and what follows from them anew.

    A clearance of its own stays unless creatinine is known anew, and an area keeps its formula.
    """
    if not given:
        return dict(covariates)
    size, surface = (covariates["weight"], covariates["height"]), covariates["bsa"]
    anew = {name for name, needed in _FOLLOW_FROM.items() if needed & given.keys()}
    if "crcl" in given:
        anew |= {"scr"}
    elif "scr" not in given and not np.allclose(
        covariates["crcl"],
        creatinine_clearance_cockcroft_gault(
            *(covariates[name] for name in ("age", "weight", "scr", "male"))
        ),
    ):
        anew -= {"crcl"}
    kept = {name: v for name, v in covariates.items() if name not in anew}
    du_bois = np.allclose(surface, body_surface_area_du_bois(*size))
    return complete_covariates(
        kept | {k: np.full(len(surface), float(v)) for k, v in given.items()},
        bsa_formula="du_bois" if du_bois else "mosteller",
    )


def _portions(n: int) -> Iterator[Indices]:
    for start in range(0, n, LANES_AT_ONCE):
        yield np.arange(start, min(start + LANES_AT_ONCE, n))


def _part(sample: PatientSample, index: Indices) -> PatientSample:
    """Take some of the patients; one who notes what is asked stays as it is."""
    return sample.part(index) if isinstance(sample, ScoredSample) else sample


# -- the kinds ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True)
class _OneByOne:
    """Patients one by one; ``given_until`` as of `Lanes`."""

    given_until: int | None = None

    def ended(self, ready: _Ready) -> _Ready:
        """Let all that is given end on its day in what is ready for the driver."""
        if self.given_until is None:
            return ready
        return replace(ready, anatomy=replace(ready.anatomy, given_until=self.given_until))


@dataclass(frozen=True, eq=False)
class _CardLanes(_OneByOne):
    ensemble: CardsEnsemble
    sample: PatientSample
    draw: Indices
    regimen: Regimen
    days: int
    plan: DosingPlan

    def chunks(self) -> Iterator[Indices]:
        yield from _portions(len(self.draw))

    def course(self, draws: Indices) -> Course:
        values = {name: v[self.draw[draws]][None] for name, v in self.ensemble.values.items()}
        made = replace(self.ensemble, sample=_part(self.sample, draws), values=values)
        treated = made.treated(self.regimen, self.days)
        return replace(treated, simulator=self.ended(treated.simulator)).course(np.array([0]))


@dataclass(frozen=True, eq=False)
class _FitLanes(_OneByOne):
    ensemble: FittedEnsemble
    draw: Indices
    regimen: Regimen
    days: int

    @property
    def plan(self) -> DosingPlan:
        return self.ensemble.treated(self.regimen, self.days).plan

    def chunks(self) -> Iterator[Indices]:
        yield from _portions(len(self.draw))

    def course(self, draws: Indices) -> Course:
        made = replace(self.ensemble, sample=_part(self.ensemble.sample, draws))
        treated = made.treated(self.regimen, self.days)
        treated = replace(treated, prepared=self.ended(treated.prepared))
        return treated.own_draws(self.draw[draws])


@dataclass(frozen=True, eq=False)
class _PosteriorLanes(_OneByOne):
    ensemble: LearnedEnsemble
    arm: Arm
    prepared: PreparedArm
    sample: PatientSample
    own: Floats
    draw: Indices
    of_cards: tuple[Mapping[str, float], ...]

    @property
    def plan(self) -> DosingPlan:
        made = self.prepared.regimen.made
        assert made is not None
        return made

    def chunks(self) -> Iterator[Indices]:
        order = np.argsort(self.draw, kind="stable")
        for same in np.split(order, np.flatnonzero(np.diff(self.draw[order])) + 1):
            for portion in _portions(len(same)):
                yield same[portion]

    def course(self, draws: Indices) -> Course:
        study, which = self.ensemble.study, np.asarray(draws)
        number = int(self.draw[which[0]])
        scores = np.clip(ndtr(self.own[which]), 1e-9, 1.0 - 1e-9)
        people = Candidates((self.arm,), (Who(scores, _part(self.sample, which)),))
        theta = {**study.thetas[number], **self.of_cards[number]}
        made = people.patients(theta, study.variant, study.deviations[number])
        lanes = self.prepared.lanes(
            theta, made.parameters, which, made.kill_score, study.variant, self.ensemble.curves
        )
        return self.prepared.run(self.ended(lanes), threads=1)


def _kind_of(ensemble: Ensemble) -> _Kind:
    if isinstance(ensemble, CardsEnsemble):
        bodies = ensemble.population or ensemble.sample
        return _Kind(ensemble.draws, bodies, partial(_of_cards, ensemble))
    if isinstance(ensemble, FittedEnsemble):
        return _Kind(ensemble.draws, ensemble.sample, partial(_of_fit, ensemble))
    if isinstance(ensemble, LearnedEnsemble):
        treated = partial(_of_posterior, ensemble)
        return _Kind(ensemble.draws, ensemble.arm.who, treated, len(SCORES))
    raise PkpdError(
        where="source of patients",
        what=f"{type(ensemble).__name__} cannot be simulated one patient at a time",
        allowed="what pkpd.source gives",
    )


def _of_cards(
    ensemble: CardsEnsemble,
    sample: PatientSample, own: Floats, draw: Indices, regimen: Regimen, days: int,
) -> _CardLanes:  # fmt: skip
    ensemble = ensemble.with_cards_of(regimen)
    ready = replace(ensemble, sample=_part(sample, draw[:0])).treated(regimen, days)
    return _CardLanes(ensemble, sample, draw, regimen, days, ready.plan)


def _of_fit(
    ensemble: FittedEnsemble,
    sample: PatientSample, own: Floats, draw: Indices, regimen: Regimen, days: int,
) -> _FitLanes:  # fmt: skip
    return _FitLanes(replace(ensemble, sample=sample), draw, regimen, days)


def _of_posterior(
    ensemble: LearnedEnsemble,
    sample: PatientSample, own: Floats, draw: Indices, regimen: Regimen, days: int,
) -> _PosteriorLanes:  # fmt: skip
    mine = ensemble.arm
    if mine.least_neutrophils > 0 or mine.least_platelets > 0 or np.isfinite(mine.most_wbc):
        raise PkpdError(
            where=f"arm {mine.name}",
            what="it has limits of counts at entry",
            remedy="leave them out: one patient's own counts say more",
        )
    schedule = replace(mine.schedule, regimen=regimen, horizon_days=days)
    arm = replace(mine, schedule=schedule, population=sample, age=None)
    study = ensemble.study
    prepared = prepare_arm(arm, sample, study.steps_per_day)
    of_cards = prepared.regimen.own_draws(len(study.thetas), study.seed)
    return _PosteriorLanes(ensemble, arm, prepared, sample, own, draw, of_cards)
