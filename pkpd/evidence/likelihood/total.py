"""The likelihood of an evidence table given simulated arms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pkpd.errors import DataError, sentence
from pkpd.evidence.likelihood.log_sums import log_sum
from pkpd.evidence.likelihood.random_effects import StudyEffects
from pkpd.evidence.likelihood.terms import Arm, Term
from pkpd.evidence.likelihood.use import Switches, terms_of
from pkpd.evidence.table.arms import ArmSeen, ArmToSimulate, arms_of
from pkpd.evidence.table.table import EvidenceTable

Floats = NDArray[np.float64]
#: From parameters to simulated arms by key.
Simulator = Callable[[Mapping[str, float]], Mapping[str, ArmSeen]]


@dataclass(frozen=True)
class Evaluation:
    """Log likelihood at one set of parameters.

    Attributes
    ----------
    total
        Of the table.
    by_study : float[S]
        Factors of the studies (they are independent given the parameters); sums to `total`.
    by_term : float[T]
        Log predictive probability of each term for a new study, by itself and with power 1.
    """

    total: float
    by_study: Floats
    by_term: Floats


class EvidenceLikelihood:
    """Likelihood of a table through a simulator.

    Parameters
    ----------
    table
        The evidence.
    simulate
        Parameters to simulated arms; it is called once for each evaluation. Without it the
        likelihood only says what must be simulated; :meth:`with_simulator` completes it.
    effects
        How studies deviate from one another.
    switches
        Which rows count, and how much.

    Attributes
    ----------
    terms
        Factors, in the order of the table.
    studies
        Names of the studies that have a term.
    arms
        What the simulator must simulate, by key.
    """

    def __init__(
        self,
        table: EvidenceTable,
        simulate: Simulator | None = None,
        effects: StudyEffects | None = None,
        switches: Switches | None = None,
    ) -> None:
        self.table = table
        self._simulate = simulate
        self.effects = effects or StudyEffects()
        self.switches = switches or Switches()
        self.terms = terms_of(table, self.switches)
        if not self.terms:
            raise DataError(
                sentence(where=table.file or "evidence", what="no row has a likelihood")
            )
        self.studies = tuple(dict.fromkeys(term.study for term in self.terms))
        self.arms: dict[str, ArmToSimulate] = arms_of(
            row for term in self.terms for row in term.rows
        )
        needed = {key for term in self.terms for key in term.arm_keys}
        self.arms = {key: arm for key, arm in self.arms.items() if key in needed}

    def with_simulator(self, simulate: Simulator) -> EvidenceLikelihood:
        """Give the same likelihood with a simulator."""
        return EvidenceLikelihood(self.table, simulate, self.effects, self.switches)

    @property
    def simulate(self) -> Simulator:
        """The simulator."""
        if self._simulate is None:
            raise DataError(
                sentence(
                    where="likelihood",
                    what="it has no simulator",
                    remedy="complete it by with_simulator",
                )
            )
        return self._simulate

    def __call__(self, theta: Mapping[str, float]) -> Evaluation:
        """Simulate and evaluate."""
        return self.evaluate(theta, self.simulate(self.effects.for_simulation(theta)))

    def evaluate(self, theta: Mapping[str, float], seen: Mapping[str, ArmSeen]) -> Evaluation:
        """Log likelihood of the table given simulated arms."""
        grid = self.effects.grid(theta)
        alone = np.empty((len(self.terms), grid.log_weight.size))
        weighted: dict[str, Arm] = {}
        pieces: dict[str, list[tuple[Term, Floats]]] = {study: [] for study in self.studies}
        for index, term in enumerate(self.terms):
            arms = {key: self._arm(key, theta, seen, weighted) for key in term.arm_keys}
            by_reading = np.stack([term.log_likelihood(arms, r) for r in term.readings])
            alone[index] = _any_reading(by_reading + term.log_priors[:, None])
            pieces[term.study].append((term, by_reading))
        by_term = log_sum(alone + grid.log_weight, axis=1)
        joint = np.stack([_study(pieces[study]) for study in self.studies])
        by_study = log_sum(joint + grid.log_weight, axis=1)
        total = float(by_study.sum())
        return Evaluation(total if np.isfinite(total) else -np.inf, by_study, by_term)

    def reading_probabilities(
        self, theta: Mapping[str, float], seen: Mapping[str, ArmSeen]
    ) -> dict[tuple[str, str], float]:
        """Probability of each reading of each study, given the parameters: (study, reading)."""
        grid = self.effects.grid(theta)
        weighted: dict[str, Arm] = {}
        sums: dict[tuple[str, tuple[str, ...]], Floats] = {}
        for term in self.terms:
            if not term.family:
                continue
            arms = {key: self._arm(key, theta, seen, weighted) for key in term.arm_keys}
            by_reading = np.stack([term.log_likelihood(arms, r) for r in term.readings])
            key = (term.study, term.family)
            prior = term.log_priors[:, None]
            sums[key] = sums.get(key, prior + np.zeros_like(by_reading)) + term.power * by_reading
        answer = {}
        for (study, family), values in sums.items():
            marginal = log_sum(values + grid.log_weight, axis=1)
            probabilities = np.exp(marginal - log_sum(marginal))
            for name, p in zip(family, probabilities, strict=True):
                answer[study, name] = float(p)
        return answer

    def _arm(
        self,
        key: str,
        theta: Mapping[str, float],
        seen: Mapping[str, ArmSeen],
        weighted: dict[str, Arm],
    ) -> Arm:
        if key not in weighted:
            if key not in seen:
                raise DataError(
                    sentence(where=f"arm {key}", what="the simulator did not return it")
                )
            arm = seen[key]
            weights, size = self.effects.weights(theta, arm.weight, arm.scores)
            weighted[key] = Arm(arm, weights, size, theta)
        return weighted[key]


def _any_reading(by_reading: Floats) -> Floats:
    """Log likelihood ``[K]`` with the readings ``[R, K]`` summed over."""
    return by_reading[0] if len(by_reading) == 1 else log_sum(by_reading, axis=0)


def _study(parts: list[tuple[Term, Floats]]) -> Floats:
    """Log likelihood ``[K]`` of a study at each deviation, shared readings summed over."""
    families: dict[tuple[str, ...], Floats] = {}
    for term, by_reading in parts:
        value = term.power * by_reading
        if term.family in families:
            families[term.family] = families[term.family] + value
        else:
            families[term.family] = value + term.log_priors[:, None]
    return np.sum([_any_reading(value) for value in families.values()], axis=0)


def only_studies(likelihood: EvidenceLikelihood, studies: Iterable[str]) -> EvidenceLikelihood:
    """Likelihood of some studies alone, with the same simulator."""
    wanted = set(studies)
    rows = tuple(row for row in likelihood.table if row.study in wanted)
    return EvidenceLikelihood(
        replace(likelihood.table, rows=rows),
        likelihood.simulate,
        likelihood.effects,
        likelihood.switches,
    )
