"""Patients of an arm: global parameters and fixed random scores to the parameters of each patient.

The scores are quasi-random (Sobol) and do not depend on the parameters, so that two sets of
parameters meet the same patients, and what changes between them is the parameters' doing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtri
from scipy.stats import qmc

from pkpd.leukaemia.equations import PARAMETERS, initial_state, observed_counts
from pkpd.leukaemia.parameters import Theta, value_of
from pkpd.leukaemia.schedule import Arm
from pkpd.marrow.variants import Variant

Floats = NDArray[np.float64]

SCORES = (
    "rho", "stem", "kill", "reserve", "tp", "kill_blasts", "blasts", "len_ec50",
    "stem_platelet", "mtt", "neutrophils_normal", "platelets_normal", "capacity", "len_clearance",
    "growth", "len_kill_blasts", "blood", "leukaemic_neutrophils", "increment", "injury", "age",
    "frailty", "death",
)  # fmt: skip
"""Random scores of a patient, the ones that matter most first (Sobol numbers are best there)."""

_HOURS = 24.0
_LN2 = float(np.log(2.0))
_OVERSAMPLING = 4
_NO_BLASTS = 1e-9


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
    sampler = qmc.Sobol(len(SCORES), scramble=True, rng=np.random.default_rng(seed))
    power = max(int(np.ceil(np.log2(max(n, 1)))), 0)
    scores = np.clip(sampler.random_base2(power)[:n], 1e-9, 1.0 - 1e-9)
    scores.setflags(write=False)
    return scores


def arm_patients(
    arm: Arm, theta: Theta, scores: Floats, variant: Variant
) -> tuple[dict[str, Floats], Floats, Floats]:
    """Parameters and initial states of the patients of an arm.

    Parameters
    ----------
    arm
        Disease, age and limits of entry.
    theta
        Global parameters.
    scores
        ``[M, len(SCORES)]`` uniform numbers. With limits of entry, the first quarter of the M
        candidates that meet them are taken; if fewer do, they are repeated.
    variant
        Mechanisms that are on.

    Returns
    -------
    parameters
        Name -> ``[N]``, the names of `PARAMETERS`, ``age`` and ``death_score`` (uniform).
    state
        ``[states, N]`` before any drug.
    scores
        ``[N, len(SCORES)]`` of the patients taken.
    """
    made = Candidates((arm,), (scores,)).patients(theta, variant)
    return made.parameters, made.state, scores if made.chosen is None else scores[made.chosen]


@dataclass(frozen=True)
class Patients:
    """Patients of several arms, those of each arm next to each other.

    Attributes
    ----------
    parameters
        Name -> ``[N]``, the names of `PARAMETERS`, ``age`` and ``death_score`` (uniform).
    state
        ``[states, N]`` before any drug.
    chosen
        ``[N]`` which of the candidates they are; ``None``: all of them, in order.
    """

    parameters: dict[str, Floats]
    state: Floats
    chosen: NDArray[np.int64] | None


class Candidates:
    """Candidates for several arms, and what of them does not depend on global parameters.

    Parameters
    ----------
    arms
        Disease, age and limits of entry.
    scores
        Of each arm, as `arm_patients` takes them.

    Attributes
    ----------
    normal
        Score -> ``[M]``, standard normal, of all candidates.
    starts
        Where the patients of each arm begin among the N, and N.
    """

    def __init__(self, arms: Sequence[Arm], scores: Sequence[Floats]) -> None:
        self.arms = tuple(arms)
        sizes = [len(own) for own in scores]
        self._first = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        taken = [
            size // _OVERSAMPLING if _limited(arm) else size
            for arm, size in zip(arms, sizes, strict=True)
        ]
        self.starts = np.concatenate([[0], np.cumsum(taken)]).astype(np.int64)
        whole = np.concatenate(scores)
        # one column for each score, contiguous
        columns = np.ascontiguousarray(ndtri(whole).T)
        self.normal: dict[str, Floats] = dict(zip(SCORES, columns, strict=True))
        self._death_score = np.ascontiguousarray(whole[:, SCORES.index("death")])
        self._diseases = tuple(dict.fromkeys(arm.disease for arm in arms))
        codes = [self._diseases.index(arm.disease) for arm in arms]
        self._disease = np.repeat(codes, sizes)
        ages = [np.nan if arm.age is None else arm.age for arm in arms]
        self._age = np.repeat(ages, sizes)

    def patients(self, theta: Theta, variant: Variant) -> Patients:
        """Patients under global parameters."""
        of = _values(theta, self._diseases, self._disease)
        p = _parameters(of, self.normal, self._age, variant)
        p["death_score"] = self._death_score
        state = initial_state(p, variant)
        if not any(_limited(arm) for arm in self.arms):
            return Patients(p, state, None)
        counts = observed_counts(state, p)
        chosen = np.concatenate(
            [
                self._enter(arm, int(first), int(last), counts)
                for arm, first, last in zip(
                    self.arms, self._first[:-1], self._first[1:], strict=True
                )
            ]
        )
        return Patients({name: v[chosen] for name, v in p.items()}, state[:, chosen], chosen)

    def _enter(
        self, arm: Arm, first: int, last: int, counts: dict[str, Floats]
    ) -> NDArray[np.int64]:
        if not _limited(arm):
            return np.arange(first, last)
        own = slice(first, last)
        meets = (
            (counts["neutrophils"][own] >= arm.least_neutrophils)
            & (counts["platelets"][own] >= arm.least_platelets)
            & (counts["wbc"][own] <= arm.most_wbc)
        )
        order = np.argsort(~meets, kind="stable")
        n = (last - first) // _OVERSAMPLING
        return first + order[np.arange(n) % max(int(meets.sum()), 1)]


def _limited(arm: Arm) -> bool:
    return arm.least_neutrophils > 0.0 or arm.least_platelets > 0.0 or np.isfinite(arm.most_wbc)


def candidates(arm: Arm, n: int) -> int:
    """How many candidates `arm_patients` needs to give ``n`` patients."""
    return n * _OVERSAMPLING if _limited(arm) else n


#: A parameter of each candidate, or the same of all.
_Value = float | Floats


def _values(
    theta: Theta, diseases: tuple[str, ...], disease: NDArray[np.int64]
) -> Callable[..., _Value]:
    """Look-up of parameters by the diseases of the candidates."""

    def of(name: str, default: float | None = None) -> _Value:
        found = [value_of(theta, name, own, default) for own in diseases]
        if all(value == found[0] for value in found):
            return found[0]
        return np.array(found)[disease]

    return of


def _parameters(
    of: Callable[..., _Value], normal: dict[str, Floats], age: Floats, variant: Variant
) -> dict[str, Floats]:
    n = age.size

    def sd(name: str) -> _Value:
        return of(f"{name}.sd", default=0.0)

    def spread(name: str, score: str) -> Floats:
        return of(name) * np.exp(sd(name) * normal[score])

    def same(value: _Value) -> Floats:
        return np.full(n, value)

    p: dict[str, Floats] = {}
    rho = spread("rho", "rho") if variant.stem_memory else same(3.0)
    ratio = of("rho_platelet_ratio") if variant.lineages == "separate" else 1.0
    p["rho"], p["rho_platelet"] = rho, rho * ratio
    p["reserve"] = spread("reserve", "reserve") if variant.reserve else same(0.0)
    transit = np.exp(of("mtt.sd") * normal["mtt"])
    p["k_neutrophil"] = 4.0 / (of("mtt_neutrophil") * transit)
    p["k_platelet"] = 3.0 / (of("mtt_platelet") * transit)
    for name in ("k_circulation", "gamma", "beta", "clearance_ratio", "gamma_platelet",
                 "tpo_saturation", "platelet_ageing", "platelet_fixed_loss", "committed_neutrophil",
                 "committed_platelet", "clo_max_stem", "clo_ec50_stem", "clo_max_committed",
                 "clo_ec50_committed", "clo_platelet_ratio", "clo_hill", "len_emax",
                 "len_kill_stem", "injury_rate", "other_cells",
                 "neutrophil_share", "filgrastim", "peg_loss_own",
                 "peg_loss_neutrophil"):  # fmt: skip
        p[name] = same(of(name))
    for name in ("neutrophils_normal", "platelets_normal", "increment", "growth"):
        p[name] = spread(name, name)
    if variant.platelet_loss == "constant":
        fixed = p["platelet_fixed_loss"] / (p["platelets_normal"] + 5.0)
        p["platelet_ageing"] = p["platelet_ageing"] + fixed
        p["platelet_fixed_loss"] = same(0.0)
    if not variant.committed_clofarabine:
        p["clo_ec50_committed"] = p["clo_ec50_stem"]
        p["clo_platelet_ratio"] = p["committed_platelet"] / p["committed_neutrophil"]
    p["self_renewal"] = same(1.0 if variant.proliferation == "self_renewing" else 0.0)

    # disease
    stem = np.minimum(spread("stem_start", "stem"), 1.0)
    platelet = np.exp(of("stem_platelet.sd", default=0.0) * normal["stem_platelet"])
    blasts = expit(logit(of("blasts_start")) + sd("blasts_start") * normal["blasts"])
    general = of("crowding")
    capacity = of("capacity", default=0.0)
    known = np.asarray(capacity) > 0.0
    regrown = np.maximum(capacity * np.exp(sd("capacity") * normal["capacity"]), stem)
    relief = of("relief", default=np.nan)
    if np.any(np.isnan(relief) & ~known):
        of("relief")  # which says that it is missing
    p["capacity"] = np.where(known, regrown, stem ** (1.0 - relief))
    p["capacity_platelet"] = np.where(
        known, np.maximum(p["capacity"], stem * platelet), p["capacity"] * platelet
    )
    taken = np.where(blasts > _NO_BLASTS * 10.0, (1.0 - stem / p["capacity"]) / blasts, 0.0)
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

    # drugs
    p["kill_stem"] = of("ln_kill") * np.exp(of("ln_kill.sd") * normal["kill"])
    between = of("kill_platelet_ratio") if variant.lineages == "separate" else 1.0
    p["kill_stem_platelet"] = p["kill_stem"] * between
    resistance = of("resistance", default=1.0)
    log10_kill = of("kill_log10") + of("kill_log10.sd") * normal["kill_blasts"]
    p["kill_blasts"] = np.maximum(log10_kill, 0.0) * np.log(10.0) * resistance
    p["tp_per_dose"] = spread("tp_per_dose", "tp")
    p["k_tp_in"] = same(_HOURS * _LN2 / of("tp_input_half_life"))
    p["k_tp"] = same(_HOURS * _LN2 / of("tp_half_life"))
    p["clo_max_blasts"] = spread("clo_max_blasts", "kill_blasts") * resistance
    clearance = spread("len_clearance", "len_clearance")
    p["len_per_mg"] = 1000.0 / of("len_molar_mass") / (clearance * _HOURS)
    p["len_ka"] = same(_HOURS * _LN2 / of("len_absorption_half_life"))
    p["len_ke"] = same(_HOURS * _LN2 / of("len_half_life"))
    p["len_ec50_neutrophil"] = spread("len_ec50", "len_ec50") / of("len_sensitivity", default=1.0)
    p["len_ec50_platelet"] = p["len_ec50_neutrophil"] / of("len_platelet_ratio")
    p["len_kill_blasts"] = spread("len_kill_blasts", "len_kill_blasts")
    injury = spread("injury_loss", "injury")
    p["injury_loss"] = injury if variant.late_injury else same(0.0)

    # supportive care and early death
    p["transfused_loss"] = same(_HOURS * _LN2 / of("transfused_half_life"))
    median = np.where(np.isnan(age), of("age"), age)
    p["age"] = np.clip(median + of("age.sd") * normal["age"], 1.0, 95.0)
    frailty = of("hazard", default=1.0) * np.exp(
        of("hazard.sd") * normal["frailty"] + of("hazard_age") * (p["age"] - 65.0) / 10.0
    )
    for name in ("hazard_base", "hazard_neutropenia", "hazard_blasts"):
        p[name] = of(name) * frailty
    assert all(name in p for name in PARAMETERS)
    return p
