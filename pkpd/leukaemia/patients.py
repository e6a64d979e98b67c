"""Patients of an arm: global parameters and fixed random numbers to the parameters of each patient.

The random numbers do not depend on the parameters, so that two sets of parameters meet the same
patients, and what changes between them is the parameters' doing. Scores of the marrow are
quasi-random (Sobol); bodies and kidneys are those of the arm's population.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtri

from pkpd.arrays import Floats
from pkpd.errors import PkpdError
from pkpd.leukaemia.parameters import Theta, value_of
from pkpd.leukaemia.schedule import Arm
from pkpd.marrow.leukaemic import LeukaemicMarrow, room_of_start
from pkpd.marrow.variants import Variant
from pkpd.sobol import sobol
from pkpd.solve.compiled.run_days import at_start
from pkpd.subjects import PatientSample, sample_population

Value = float | Floats
"""A parameter of each candidate, or the same of all."""
ValueOf = Callable[..., Value]
"""Look-up of a parameter by its name, for the diseases of the candidates."""

SCORES = (
    "rho", "stem", "kill", "reserve", "kill_blasts", "blasts", "stem_platelet", "mtt",
    "neutrophils_normal", "platelets_normal", "capacity", "growth", "blood",
    "leukaemic_neutrophils", "increment", "injury", "frailty", "death",
)  # fmt: skip
"""Random scores of a patient, the ones that matter most first (Sobol numbers are best there)."""

_HOURS = 24.0
_LN2 = float(np.log(2.0))
_OVERSAMPLING = 4
_AGE = 60.0  # years, of which the numbers of diseases are
_YOUNGEST = 40.0
"""Age in years below which marrow and blasts are as at this age: the slopes are of adults, and
would make a child's marrow regrow, and its blasts die, half as fast again. Assumed."""


@dataclass(frozen=True, eq=False)
class Who:
    """Candidates of an arm, as far as global parameters do not change them.

    Attributes
    ----------
    scores : float[M, len(SCORES)]
        Uniform on (0, 1). With limits of entry, the first quarter of the M candidates that meet
        them are taken; if fewer do, they are repeated.
    sample
        Their ages, bodies and kidneys.
    """

    scores: Floats
    sample: PatientSample


def who(arm: Arm, n: int, seed: int, name: str | None = None) -> Who:
    """Candidates that give ``n`` patients of an arm.

    Parameters
    ----------
    arm
        Its population and limits of entry.
    n
        Number of patients.
    seed
        Seed of the run.
    name
        What the scores are for; another name gives other scores. The arm's own key if not given.
    """
    many = candidates(arm, n)
    scores = random_scores(many, seed, arm.patients_key if name is None else name)
    source = arm.who
    if isinstance(source, PatientSample):
        return Who(scores, source.taken(np.arange(many) % source.n))
    return Who(scores, sample_population(source, many, seed))


def random_scores(n: int, seed: int, name: str = "") -> Floats:
    """Scores of ``n`` patients, uniform on (0, 1), ``[n, len(SCORES)]``; cached, read-only.

    Parameters
    ----------
    n
        Number of patients.
    seed, name
        Seed of the run, and what the patients are for; another name gives other patients.
    """
    digest = hashlib.sha256(f"{int(seed)}:{name}".encode()).digest()
    return _sobol(int(n), int.from_bytes(digest[:8], "little"))


@lru_cache(maxsize=512)
def _sobol(n: int, seed: int) -> Floats:
    power = max(int(np.ceil(np.log2(max(n, 1)))), 0)
    points = sobol(len(SCORES), 2**power, np.random.default_rng(seed))
    scores = np.clip(points[:n], 1e-9, 1.0 - 1e-9)
    scores.setflags(write=False)
    return scores


def arm_patients(arm: Arm, theta: Theta, source: Who, variant: Variant) -> Patients:
    """Patients of one arm under global parameters; see `Candidates`."""
    return Candidates((arm,), (source,)).patients(theta, variant)


@dataclass(frozen=True)
class Patients:
    """Patients of several arms, those of each arm next to each other.

    Attributes
    ----------
    parameters
        Name -> ``[N]``: the parameters of `pkpd.marrow.leukaemic.LeukaemicMarrow`, those of kills
        by intensity (`pkpd.marrow.actions.Intensity`), ``increment`` of a transfusion (10^9/L),
        ``resistance``, ``age`` and ``death_score`` (uniform).
    kill_score
        ``[N]`` standard normal scores of the sensitivity of blasts to kills.
    chosen
        ``[N]`` which of the candidates they are; ``None``: all of them, in order.
    """

    parameters: dict[str, Floats]
    kill_score: Floats
    chosen: NDArray[np.int64] | None


class Candidates:
    """Candidates for several arms, and what of them does not depend on global parameters.

    Parameters
    ----------
    arms
        Disease and limits of entry.
    sources
        Of each arm, from `who`.

    Attributes
    ----------
    normal
        Score -> ``[M]``, standard normal, of all candidates.
    starts
        Where the patients of each arm begin among the N, and N.
    """

    def __init__(self, arms: Sequence[Arm], sources: Sequence[Who]) -> None:
        self.arms = tuple(arms)
        for arm, source in zip(arms, sources, strict=True):
            if source.scores.shape != (source.sample.n, len(SCORES)):
                raise PkpdError(
                    where=f"arm {arm.name}",
                    what=f"scores of shape {source.scores.shape}",
                    allowed=f"({source.sample.n}, {len(SCORES)})",
                )
        sizes = [source.sample.n for source in sources]
        self.first = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        taken = [
            size // _OVERSAMPLING if _limited(arm) else size
            for arm, size in zip(arms, sizes, strict=True)
        ]
        self.starts = np.concatenate([[0], np.cumsum(taken)]).astype(np.int64)
        whole = np.concatenate([source.scores for source in sources])
        # one column for each score, contiguous
        columns = np.ascontiguousarray(ndtri(whole).T)
        self.normal: dict[str, Floats] = dict(zip(SCORES, columns, strict=True))
        self._death_score = np.ascontiguousarray(whole[:, SCORES.index("death")])
        self._diseases = tuple(dict.fromkeys(arm.disease for arm in arms))
        codes = [self._diseases.index(arm.disease) for arm in arms]
        self._disease = np.repeat(codes, sizes)
        self._age = np.concatenate([source.sample["age"] for source in sources])

    def patients(
        self, theta: Theta, variant: Variant, deviations: Mapping[str, float] | None = None
    ) -> Patients:
        """Patients under global parameters.

        Parameters
        ----------
        theta
            Global parameters.
        variant
            Mechanisms that are on.
        deviations
            Score -> what is added to it in all patients, in SDs between patients.
        """
        of = values_of(theta, self._diseases, self._disease)
        moved = {name: self.normal[name] + b for name, b in (deviations or {}).items() if b}
        normal = {**self.normal, **moved}
        p = _parameters(of, normal, self._age, variant)
        p["death_score"] = self._death_score
        if not any(_limited(arm) for arm in self.arms):
            return Patients(p, normal["kill_blasts"], None)
        chosen = np.concatenate(
            [
                self._enter(arm, int(first), int(last), p, variant)
                for arm, first, last in zip(self.arms, self.first[:-1], self.first[1:], strict=True)
            ]
        )
        taken = {name: v[chosen] for name, v in p.items()}
        return Patients(taken, normal["kill_blasts"][chosen], chosen)

    def _enter(
        self, arm: Arm, first: int, last: int, p: dict[str, Floats], variant: Variant
    ) -> NDArray[np.int64]:
        if not _limited(arm):
            return np.arange(first, last)
        marrow = LeukaemicMarrow(variant, injury=False, pegfilgrastim=False)
        counts = at_start(marrow, {name: p[name][first:last] for name in marrow.parameters})
        meets = (
            (counts["neutrophils"] >= arm.least_neutrophils)
            & (counts["platelets"] >= arm.least_platelets)
            & (counts["wbc"] <= arm.most_wbc)
        )
        if not meets.any():
            raise PkpdError(
                where=f"arm {arm.name}",
                what=f"none of {last - first} candidates of {arm.disease} meets its limits of "
                f"entry: neutrophils from {arm.least_neutrophils:g}, platelets from "
                f"{arm.least_platelets:g}, white cells up to {arm.most_wbc:g} (10^9/L)",
                remedy="correct the limits, or their unit, or name more patients",
            )
        n = (last - first) // _OVERSAMPLING
        return first + np.resize(np.flatnonzero(meets), n)


def _limited(arm: Arm) -> bool:
    return arm.least_neutrophils > 0.0 or arm.least_platelets > 0.0 or np.isfinite(arm.most_wbc)


def candidates(arm: Arm, n: int) -> int:
    """How many candidates `arm_patients` needs to give ``n`` patients."""
    return n * _OVERSAMPLING if _limited(arm) else n


def values_of(
    theta: Theta, diseases: tuple[str, ...], disease: NDArray[np.int64] | None = None
) -> ValueOf:
    """Look-up of parameters by the diseases of the candidates; of one disease if it is alone."""
    if len(diseases) == 1:
        return lambda name, default=None: value_of(theta, name, diseases[0], default)

    def of(name: str, default: float | None = None) -> Value:
        found = [value_of(theta, name, own, default) for own in diseases]
        if all(value == found[0] for value in found):
            return found[0]
        assert disease is not None
        return np.array(found)[disease]

    return of


def _parameters(
    of: ValueOf, normal: dict[str, Floats], age: Floats, variant: Variant
) -> dict[str, Floats]:
    n = age.size

    def sd(name: str) -> Value:
        return of(f"{name}.sd", default=0.0)

    def spread(name: str, score: str) -> Floats:
        return of(name) * np.exp(sd(name) * normal[score])

    def same(value: Value) -> Floats:
        return np.full(n, value)

    p: dict[str, Floats] = {}
    older = (np.maximum(age, _YOUNGEST) - _AGE) / 10.0
    slower = np.exp(-of("rho_age", default=0.0) * older)
    rho = spread("rho", "rho") * slower if variant.stem_memory else same(3.0)
    ratio = of("rho_platelet_ratio") if variant.lineages == "separate" else 1.0
    p["rho"], p["rho_platelet"] = rho, rho * ratio
    p["reserve"] = spread("reserve", "reserve") if variant.reserve else same(0.0)
    transit = np.exp(of("mtt.sd") * normal["mtt"])
    pools = variant.transit_stages + 1
    p["k_neutrophil"] = pools / (of("mtt_neutrophil") * transit)
    if variant.regrowth == "growth_factor":
        p["rho_growth"] = same(of("rho_growth"))
    p["k_platelet"] = 3.0 / (of("mtt_platelet") * transit)
    for name in ("k_circulation", "gamma", "beta", "clearance_ratio", "gamma_platelet",
                 "tpo_saturation", "platelet_ageing", "platelet_fixed_loss", "committed_neutrophil",
                 "committed_platelet", "injury_rate", "other_cells", "neutrophil_share",
                 ):  # fmt: skip
        p[name] = same(of(name))
    p["filgrastim"] = same(of("rise.filgrastim"))
    p["peg_loss_own"] = same(of("loss_own.pegfilgrastim"))
    p["peg_loss_neutrophil"] = same(of("loss_neutrophil.pegfilgrastim"))
    for name in ("neutrophils_normal", "platelets_normal", "increment", "growth"):
        p[name] = spread(name, name)
    if variant.platelet_loss == "constant":
        fixed = p["platelet_fixed_loss"] / (p["platelets_normal"] + 5.0)
        p["platelet_ageing"] = p["platelet_ageing"] + fixed
        p["platelet_fixed_loss"] = same(0.0)
    p["self_renewal"] = same(1.0 if variant.proliferation == "self_renewing" else 0.0)

    # disease
    stem = np.minimum(spread("stem_start", "stem"), 1.0)
    platelet = np.exp(of("stem_platelet.sd", default=0.0) * normal["stem_platelet"])
    blasts = expit(logit(of("blasts_start")) + sd("blasts_start") * normal["blasts"])
    general = of("crowding")
    capacity = of("capacity", default=0.0)
    known = np.asarray(capacity) > 0.0
    capacity = capacity * np.exp(-of("capacity_age", default=0.0) * older)
    regrown = np.maximum(capacity * np.exp(sd("capacity") * normal["capacity"]), stem)
    relief = of("relief", default=np.nan)
    if np.any(np.isnan(relief) & ~known):
        of("relief")  # which says that it is missing
    relieved, taken = room_of_start(stem, relief, blasts)
    p["capacity"] = np.where(known, regrown, relieved)
    p["capacity_platelet"] = np.where(
        known, np.maximum(p["capacity"], stem * platelet), p["capacity"] * platelet
    )
    p["crowding"] = np.where(known, general, taken)
    p["stem_start"], p["stem_platelet_start"] = stem, stem * platelet
    p["blasts_start"] = blasts
    p["block"] = same(of("block") if variant.block else 0.0)
    if not variant.crowding:
        p["crowding"] = same(0.0)
    p["blood_per_blast"] = spread("blood_per_blast", "blood")
    share = of("leukaemic_neutrophils") * np.exp(
        sd("leukaemic_neutrophils") * normal["leukaemic_neutrophils"]
    )
    p["leukaemic_neutrophils"] = share / (1.0 + share) * float(variant.leukaemic_neutrophils)

    # chemotherapy
    p["kill_stem"] = of("ln_kill") * np.exp(of("ln_kill.sd") * normal["kill"])
    between = of("kill_platelet_ratio") if variant.lineages == "separate" else 1.0
    p["kill_stem_platelet"] = p["kill_stem"] * between
    p["resistance"] = of("resistance", default=1.0) * np.exp(
        -of("resistance_age", default=0.0) * older
    )
    log10_kill = of("kill_log10") + of("kill_log10.sd") * normal["kill_blasts"]
    p["kill_blasts"] = np.maximum(log10_kill, 0.0) * np.log(10.0) * p["resistance"]
    injury = spread("injury_loss", "injury")
    p["injury_loss"] = injury if variant.late_injury else same(0.0)

    # supportive care and early death
    p["transfused_loss"] = same(_HOURS * _LN2 / of("transfused_half_life"))
    p["age"] = age
    frailty = of("hazard", default=1.0) * np.exp(
        of("hazard.sd") * normal["frailty"] + of("hazard_age") * (p["age"] - 65.0) / 10.0
    )
    for name in ("hazard_base", "hazard_neutropenia", "hazard_blasts"):
        p[name] = of(name) * frailty
    return p
