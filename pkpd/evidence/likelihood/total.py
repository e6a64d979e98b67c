"""The likelihood of an evidence table given simulated arms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import numpy as np

from pkpd.arrays import Floats
from pkpd.errors import DataError
from pkpd.evidence.likelihood.cells import Cells, cells_of
from pkpd.evidence.likelihood.density import Spread, TableDensity, logits_and_days
from pkpd.evidence.likelihood.offsets import spread_of
from pkpd.evidence.likelihood.summaries import Summaries, summarise
from pkpd.evidence.likelihood.use import Switches, terms_of
from pkpd.evidence.table.arms import ArmSeen, ArmToSimulate, arms_of
from pkpd.evidence.table.table import EvidenceTable

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
        Log predictive probability of each term for a new study, by itself.
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
    switches
        Which rows count, and which are doubtful.

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
        switches: Switches | None = None,
    ) -> None:
        self.table = table
        self._simulate = simulate
        self.switches = switches or Switches()
        self.terms = terms_of(table, self.switches)
        if not self.terms:
            raise DataError(where=table.file or "evidence", what="no row has a likelihood")
        self.studies = tuple(dict.fromkeys(term.study for term in self.terms))
        self.arms: dict[str, ArmToSimulate] = arms_of(
            row for term in self.terms for row in term.rows
        )
        needed = {key for term in self.terms for key in term.arm_keys}
        self.arms = {key: arm for key, arm in self.arms.items() if key in needed}

    def with_simulator(self, simulate: Simulator) -> EvidenceLikelihood:
        """Give the same likelihood with a simulator."""
        return EvidenceLikelihood(self.table, simulate, self.switches)

    @property
    def simulate(self) -> Simulator:
        """The simulator."""
        if self._simulate is None:
            raise DataError(
                where="likelihood",
                what="it has no simulator",
                remedy="complete it by with_simulator",
            )
        return self._simulate

    @cached_property
    def cells(self) -> Cells:
        """The terms as cells: what each is compared with."""
        return cells_of(self.terms)

    def summaries(self, theta: Mapping[str, float], seen: Mapping[str, ArmSeen]) -> Summaries:
        """Summaries of simulated arms that the cells ask for."""
        missing = [key for key in self.arms if key not in seen]
        if missing:
            raise DataError(where=f"arm {missing[0]}", what="the simulator did not return it")
        return summarise(self.cells.shares, self.cells.days, seen, theta)

    def __call__(self, theta: Mapping[str, float]) -> Evaluation:
        """Simulate and evaluate."""
        return self.evaluate(theta, self.simulate(theta))

    def evaluate(self, theta: Mapping[str, float], seen: Mapping[str, ArmSeen]) -> Evaluation:
        """Log likelihood of the table given simulated arms."""
        logits, days = logits_and_days(self.summaries(theta, seen))
        by_study, by_term = map(np.asarray, self._factors(logits, days, spread_of(theta)))
        # an arm that has no days to compare tells nothing for these parameters
        by_study, by_term = (np.where(np.isnan(x), -np.inf, x) for x in (by_study, by_term))
        return Evaluation(float(by_study.sum()), by_study, by_term)

    @cached_property
    def _factors(self) -> Callable[..., tuple[Any, Any]]:
        """Factors of studies and of terms, compiled: one operation after the other takes longer."""
        together, alone = TableDensity(self.cells), TableDensity(cells_of(self.terms, alone=True))
        studies = np.array([together.studies.index(study) for study in self.studies])
        terms = np.array([alone.studies.index(f"{i}") for i in range(len(self.terms))])

        def both(logits: Any, days: Any, spread: Spread) -> tuple[Any, Any]:
            return (
                together.marginal(logits, days, spread)[studies],
                alone.marginal(logits, days, spread)[terms],
            )

        return jax.jit(both)


def only_studies(likelihood: EvidenceLikelihood, studies: Iterable[str]) -> EvidenceLikelihood:
    """Likelihood of some studies alone, without a simulator."""
    wanted = set(studies)
    rows = tuple(row for row in likelihood.table if row.study in wanted)
    return EvidenceLikelihood(replace(likelihood.table, rows=rows), switches=likelihood.switches)
