"""A joint model bound to data: which engine serves, concentrations, counts, and what went wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from pkpd.data.dataset import Dataset, Observations
from pkpd.errors import PkpdError, sentence
from pkpd.predict.marrow_events import drug_of_dose, events_of
from pkpd.predict.marrow_general import GeneralCourse
from pkpd.predict.marrow_occasions import by_data, by_record
from pkpd.predict.marrow_population import (
    PopulationCourse,
    reason_against,
    reason_against_changes,
)
from pkpd.predict.structure import (
    FollowingData,
    IndividualParameters,
    Predictor,
    check_parameters,
)

if TYPE_CHECKING:
    from pkpd.predict.marrow import MarrowStructure


@dataclass(frozen=True, eq=False)
class MarrowPredictor:
    """`MarrowStructure` bound to a data set.

    Attributes
    ----------
    structure, dataset
        What is bound to what.
    place : int[lines]
        For each line of the data, its place among the structure's.
    """

    structure: MarrowStructure
    dataset: Dataset
    place: np.ndarray

    def __post_init__(self) -> None:
        """Refuse doses into no drug, and what the engine asked for cannot do."""
        drug_of_dose(self.structure, self.dataset.events)
        only = self.structure.engine == "compiled" or self.structure.whole is not None
        if only and self.reason is not None:
            self._refuse(self.reason)
        if self.engine == "compiled":
            self._population  # noqa: B018  (grids are worked out now, not inside a trace)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Individual parameters read."""
        return self.structure.parameters

    @cached_property
    def reason(self) -> str | None:
        """Why the doses or the model need the general engine; ``None`` if they do not."""
        return reason_against(self.structure, self.dataset)

    @property
    def engine(self) -> str:
        """Engine of the counts for parameters that are constant in a subject."""
        if self.structure.engine == "general" or self.reason is not None:
            return "general"
        return "compiled"

    @property
    def leaves_out(self) -> bool:
        """Whether subjects with parameters that are no numbers cost nothing."""
        return self.engine == "compiled"

    def _refuse(self, reason: str) -> None:
        raise PkpdError(
            where="marrow model bound to " + self.dataset.events.source,
            what=f"the compiled engine cannot take it: {reason}",
            remedy=None if self.structure.whole is not None else 'use engine="auto"',
        )

    @cached_property
    def _line(self) -> np.ndarray:
        """Line of each observation, among those of the structure, [M]."""
        return self.place[self.dataset.observations.line]

    @cached_property
    def _counted(self) -> np.ndarray:
        """Observations of marrow lines, as positions."""
        return np.flatnonzero(self._line >= self.structure.concentrations)

    @cached_property
    def _measured(self) -> list[tuple[int, np.ndarray, Predictor]]:
        """Drugs whose concentration was observed: index, positions of observations, predictor."""
        out = []
        events, seen = self.dataset.events, self.dataset.observations
        owner = drug_of_dose(self.structure, events)
        for k, drug in enumerate(self.structure.drugs):
            where = np.flatnonzero(self._line == k)
            if where.size and drug.pk is not None:
                part = replace(
                    self.dataset,
                    events=events_of(events, drug, owner == k),
                    observations=_subset(seen, where),
                    lines=(drug.pk.line,),
                )
                out.append((k, where, drug.pk.bind(part)))
        return out

    def _course(self, kind: type, *more: Any) -> Any:
        seen = self.dataset.observations
        at = self._counted
        line = self._line[at] - self.structure.concentrations
        subject, record = seen.subject[at], seen.record[at]
        return kind(self.structure, self.dataset, line, subject, record, *more)

    @cached_property
    def _population(self) -> PopulationCourse | None:
        return self._course(PopulationCourse) if self._counted.size else None

    def __call__(self, parameters: IndividualParameters) -> Any:
        """Predict every observation; see `pkpd.predict.structure.Predictor`."""
        check_parameters(parameters, self.parameters, self.structure.name)
        parts, order = [], []
        for k, where, predictor in self._measured:
            own = self.structure.drugs[k].own
            kinetics = {name: parameters[own[name]] for name in predictor.parameters}
            parts.append(predictor(kinetics))
            order.append(where)
        if self._counted.size:
            course, values = self._serving(parameters)
            parts.append(course(values))
            order.append(self._counted)
        if not order:
            return jnp.zeros(0)
        together = np.concatenate(order)
        return jnp.concatenate([jnp.asarray(p) for p in parts])[np.argsort(together)]

    def many(self, parameters: IndividualParameters, n: int) -> np.ndarray | None:
        """Predict one subject's counts with ``n`` sets of parameters at once, ``[M, n]``.

        Parameters
        ----------
        parameters
            Numbers by name, each one number or ``[n]``.
        n
            How many sets.

        Returns
        -------
        float[M, n] or None
            ``None`` where only the usual way is open: several subjects, observed concentrations,
            or another engine.
        """
        if self.engine != "compiled" or self._population is None or self._measured:
            return None
        return self._population.many(parameters, n)

    @cached_property
    def _general(self) -> GeneralCourse:
        return self._course(GeneralCourse)

    @property
    def _forward(self) -> bool:
        known = [drug.pk for drug in self.structure.drugs if drug.pk is not None]
        return bool(known) and known[0].options.carry == "forward"  # all have the same

    @cached_property
    def _by_data(self) -> PopulationCourse:
        """Counts for kinetics that change where the occasion or a covariate does."""
        return self._course(PopulationCourse, by_data(self.dataset, self._forward))

    @cached_property
    def _by_record(self) -> PopulationCourse:
        """Counts for kinetics that may change at every record."""
        return self._course(PopulationCourse, by_record(self.dataset, self._forward))

    @cached_property
    def _kinetic(self) -> frozenset[str]:
        """Parameters that may change in a subject without need of the general engine."""
        return frozenset(name for drug in self.structure.drugs for name in drug.own.values())

    @cached_property
    def _reason_against_changes(self) -> str | None:
        return reason_against_changes(self.structure, self.dataset)

    def _serving(
        self, parameters: IndividualParameters
    ) -> tuple[PopulationCourse | GeneralCourse, dict[str, Any]]:
        """Course that takes these parameters, and their values as it takes them.

        Values by record that are numbers and do not change (covariates read from the data) count
        as constant.
        """
        if self.engine == "general" or self._population is None:
            return self._general, dict(parameters)
        out: dict[str, Any] = {}
        changing = []
        for name, value in parameters.items():
            if np.ndim(value) == 2:
                if np.shape(value)[1] > 1 and self._moves(value):
                    changing.append(name)
                else:
                    value = value[:, 0]
            out[name] = value
        if not changing:
            return self._population, out
        others = [name for name in changing if name not in self._kinetic]
        reason = self._reason_against_changes
        if others or reason is not None:
            if self.structure.engine == "compiled" or self.structure.whole is not None:
                self._refuse(reason or f"{others[0]} is given by record")
            return self._general, dict(parameters)
        if isinstance(parameters, FollowingData):
            return self._by_data, out
        # numbers in the place of traced values would not tell what may change
        return self._by_record, out

    def _moves(self, value: Any) -> bool:
        valid = self.dataset.events.valid
        return isinstance(value, Tracer) or bool(
            np.any((np.asarray(value) != np.asarray(value)[:, :1]) & valid)
        )

    def problems(self, parameters: IndividualParameters) -> dict[int, str]:
        """Say for each subject that cannot be solved, or is over tolerance, why."""
        check_parameters(parameters, self.parameters, self.structure.name)
        out: dict[int, str] = {}
        if self._counted.size:
            course, values = self._serving(parameters)
            out = {b: self._named(b, text) for b, text in course.problems(values).items()}
        for k, _, predictor in self._measured:
            own = self.structure.drugs[k].own
            kinetics = {name: parameters[own[name]] for name in predictor.parameters}
            out = {**predictor.problems(kinetics), **out}
        predicted = np.asarray(jax.device_get(self(parameters)))
        seen = self.dataset.observations
        for b in np.unique(seen.subject[~np.isfinite(predicted)]).tolist():
            bad = (seen.subject == b) & ~np.isfinite(predicted)
            line = self.structure.lines[self._line[np.flatnonzero(bad)[0]]]
            out.setdefault(
                b,
                sentence(
                    where=f"subject {self.dataset.subjects[b]}",
                    what=f"a predicted value of {line} is not finite",
                    remedy="look at the parameters of this subject",
                ),
            )
        return out

    def _named(self, b: int, text: str) -> str:
        return text.replace(f"lane {b}", f"subject {self.dataset.subjects[b]}", 1)


def _subset(seen: Observations, where: np.ndarray) -> Observations:
    parts = {name: getattr(seen, name)[where] for name in Observations.__dataclass_fields__}
    return Observations(**{**parts, "line": np.zeros(len(where), dtype=np.int64)})
