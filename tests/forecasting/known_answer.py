"""A source whose posterior is known in closed form: the log count of a patient is a + b z."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import pkpd
from pkpd.course.course import Course, Curve
from pkpd.ensemble.lanes import Identities
from pkpd.forecasting import Seen
from pkpd.forecasting.measurement import Measurement, count_error
from pkpd.models import residual
from pkpd.schedule import NEVER, GrowthFactorPolicy, plan

CENTRE, SPREAD, ERROR = np.log(2.0), 0.8, 0.3
REGIMEN = pkpd.daily("something", "10 mg", days="1", route="oral")
NORMAL = Measurement({"neutrophils": count_error(residual.lognormal(ERROR))})


@dataclass(frozen=True)
class Flat:
    """Patients whose log count is ``CENTRE + shift[draw] + SPREAD z`` on every day."""

    who: Identities
    days: int
    shift: tuple[float, ...]
    plan: Any = None

    def chunks(self) -> Iterator[np.ndarray]:
        yield np.arange(len(self.who))

    def course(self, draws: np.ndarray) -> Course:
        mine = self.who[draws]
        logs = CENTRE + np.array(self.shift)[mine.draw] + SPREAD * mine.scores[:, 0]
        n = len(mine)
        counts = np.tile(np.exp(logs)[:, None], (1, self.days))
        hours = 24.0 * np.arange(self.days)
        curve = Curve(
            hours,
            {"neutrophils": np.tile(logs[:, None], (1, self.days))},
            {"neutrophils": np.zeros((n, self.days))},
        )
        return Course(
            mornings={"neutrophils": counts},
            platelets_with_transfused=None,
            transfused=np.zeros((n, self.days), dtype=bool),
            first_day=np.ones((n, 1), dtype=np.int64),
            course_names=("something",),
            curve=curve,
        )


@dataclass(frozen=True)
class FlatEnsemble:
    marrow: str = "flat"
    lines: tuple[str, ...] = ("neutrophils",)
    growth_factor: GrowthFactorPolicy = NEVER

    def between_mornings(self):
        return self


@dataclass(frozen=True)
class FlatLanes:
    """As `pkpd.ensemble.lanes.Lanes`; three scores, of which the counts tell one."""

    shift: tuple[float, ...] = (0.0,)
    days: int = 20
    ensemble: Any = FlatEnsemble()
    regimen: Any = REGIMEN
    size: int = 3
    given: dict[str, float] = field(default_factory=dict)
    given_until: int | None = None

    @property
    def draws(self) -> int:
        return len(self.shift)

    @property
    def plan(self):
        return plan(REGIMEN, self.days)

    def eligible(self, scores):
        return np.ones(len(scores), dtype=bool)

    def drawn(self, n, seed):
        rng = np.random.default_rng(seed)
        nobody = np.zeros(n, dtype=np.int64)
        return Identities(np.arange(n) * self.draws // n, nobody, rng.standard_normal((n, 3)))

    def treated(self, who):
        return Flat(who, self.days, self.shift, self.plan)


def seen_of(values, first_day=2) -> Seen:
    """Counts on days in a row."""
    n = len(values)
    return Seen(
        "p",
        ("neutrophils",) * n,
        first_day - 1.0 + np.arange(n),
        np.asarray(values, dtype=float),
        np.zeros(n, dtype=np.int64),
        np.full(n, -np.inf),
    )


def posterior(values, shift: float = 0.0) -> tuple[float, float, float]:
    """Mean and SD of the score z given counts, and the log marginal likelihood, in closed form."""
    y = np.log(np.asarray(values, dtype=float)) - CENTRE - shift
    precision = 1.0 + len(y) * SPREAD**2 / ERROR**2
    mean = SPREAD * y.sum() / ERROR**2 / precision
    inner = np.eye(len(y)) * ERROR**2 + SPREAD**2
    log_det = np.linalg.slogdet(2 * np.pi * inner)[1]
    return mean, precision**-0.5, float(-0.5 * (log_det + y @ np.linalg.solve(inner, y)))
