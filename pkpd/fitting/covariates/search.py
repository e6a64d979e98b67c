"""Forward and backward search of covariates by ratios of likelihoods, ranked by score tests.

A step forward adds the relation with the lowest p, as long as that is below a limit; then a step
backward removes that with the highest, as long as it is above a stricter one (Jonsson and Karlsson
1998, Pharm Res 15:1463-8). Only the relations with the best scores are fitted.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from pkpd.arguments import MAPPING, NONE, SHARE, a, check_arguments, from_to, one_of, several
from pkpd.errors import PkpdError
from pkpd.fitting.covariates.program import FittedRelations, SearchProgram
from pkpd.fitting.covariates.relations import Candidates, Relation, candidate_relations
from pkpd.fitting.maximum.estimate import maximum_likelihood
from pkpd.fitting.maximum.result import MaximumLikelihood
from pkpd.fitting.model.covariate_effects import Kind
from pkpd.fitting.uncertainty.refit import refuse_priors

if TYPE_CHECKING:
    import pandas as pd

_ABOVE = 0.05  # of the objective, that the last fit may lie above that of the search
_CONTINUOUS = tuple(kind for kind in get_args(Kind) if kind != "category")


@dataclass(frozen=True, eq=False)
class CovariateSearch:
    """What a search of covariates found.

    Attributes
    ----------
    base
        The fit that it began with.
    fit
        Fit of the model that it ended with, with standard errors.
    relations
        Names of the relations that it kept, in the order in which they were added.
    steps : DataFrame
        One row for each relation in each step: ``step``, ``direction``, ``relation``; ``score``,
        the fall of the objective that its score promises, with ``score_p`` (forward); the
        ``objective`` of its fit, the ``difference`` from the model of the step before, ``degrees``
        of freedom and ``p``; ``decision`` (added, removed, kept, left out, not fitted, failed) and
        ``why``.
    messages
        Sentences on what deserves attention.
    seconds
        Of the search.
    """

    base: MaximumLikelihood
    fit: MaximumLikelihood
    relations: tuple[str, ...]
    steps: pd.DataFrame
    messages: tuple[str, ...]
    seconds: float

    @property
    def failed(self) -> pd.DataFrame:
        """Rows of ``steps`` whose fit failed."""
        rows: Any = self.steps[self.steps["decision"] == "failed"]
        return rows

    def summary(self) -> str:
        """Tell the search in text: the fits of each step, and what was kept."""
        shown: Any = self.steps[self.steps["decision"] != "not fitted"].copy()
        for name in ("score_p", "p"):
            shown[name] = [f"{p:.2g}" if np.isfinite(p) else "" for p in shown[name]]
        columns = ["step", "direction", "relation", "score", "difference", "degrees", "p"]
        fall = self.base.objective - self.fit.objective
        kept = "; ".join(self.relations) or "none"
        return "\n".join(
            [
                f"Covariates of {self.fit.likelihood.n_subjects} subjects: {kept}",
                f"-2 log L {self.base.objective:.3f} before, {self.fit.objective:.3f} after "
                f"({fall:.2f} lower); {len(shown)} fits in {self.seconds:.1f} s",
                *shown[[*columns, "decision"]]
                .round(2)
                .to_string(index=False, na_rep="")
                .splitlines(),
                *(f"- {text}" for text in self.messages),
            ]
        )

    __repr__ = summary


@dataclass(eq=False)
class _Log:
    """Rows of the table of steps."""

    relations: Sequence[Relation]
    rows: list[dict[str, Any]] = field(default_factory=list)
    step: int = 0
    direction: str = "forward"

    def add(self, relation: int, **found: Any) -> dict[str, Any]:
        one = self.relations[relation]
        blank = dict.fromkeys(("score", "score_p", "objective", "difference", "p"), np.nan)
        row = {
            "step": self.step,
            "direction": self.direction,
            "relation": one.name,
            "parameter": one.parameter,
            "covariate": one.covariate,
            "form": one.effects[0].kind,
            "degrees": len(one.effects),
            **blank,
            "decision": "not fitted",
            "why": "",
            "number": relation,
            **found,
        }
        self.rows.append(row)
        return row

    def table(self) -> pd.DataFrame:
        import pandas as pd

        first = ["step", "direction", "relation", "parameter", "covariate", "form"]
        figures = ["score", "score_p", "objective", "difference", "degrees", "p"]
        return pd.DataFrame(self.rows, columns=[*first, *figures, "decision", "why"])


def _tail(fall: float, degrees: int) -> tuple[float, float]:
    """P value of a fall of the objective, and its logarithm, which does not run to zero."""
    from scipy.stats import chi2

    return float(chi2.sf(fall, degrees)), float(chi2.logsf(fall, degrees))


def covariate_search(
    fit: MaximumLikelihood,
    candidates: Candidates | None = None,
    *,
    forms: Sequence[Kind] = ("power",),
    forward: float = 0.05,
    backward: float = 0.01,
    fits: int = 3,
    least: int = 3,
    progress: bool = False,
) -> CovariateSearch:
    """Search covariates of parameters by steps forward and backward.

    In each step forward all candidates are ranked by the score test, which takes one evaluation for
    each; the best are fitted, from the estimates of the model before and the step of the score, and
    that with the lowest p of the ratio of likelihoods is added if it is below ``forward``. Then
    relations whose removal has a p above ``backward`` are removed one after the other. Effects that
    the model has already stay in it.

    Parameters
    ----------
    fit
        Maximum-likelihood fit of the model to begin with.
    candidates
        Covariates by parameter, ``{"CL": ["WT", "AGE"], "V": [covariate.linear("WT", 70)]}``: by
        name, or with the form and centre of `pkpd.models.covariate`. A name alone is a category for
        each value but the most frequent one where there are at most five values; else it is tried
        in ``forms`` about the median of the subjects. All covariates on all parameters with
        variability if left out; those that cannot be tried are then named in ``messages``.
    forms
        Forms of covariates with more than five values: ``"power"``, ``"exponential"``,
        ``"linear"``; several are candidates beside each other, one of which can be added.
    forward, backward
        Limits of p.
    fits
        Candidates that are fitted in a step, at least; more where a score promises more than the
        best fit gave.
    least
        Subjects that each category must have, the reference among them.
    progress
        Print a line after every step.

    Returns
    -------
    CovariateSearch

    Raises
    ------
    PkpdError
        For a candidate that is not known, has one value or a category with too few subjects, is in
        the model already or is named twice; for a fit that did not converge.

    Examples
    --------
    >>> from pkpd.checks import covariate_search
    >>> found = covariate_search(fit, {"CL": ["WT"], "V": ["WT", "SEX"]})  # doctest: +SKIP
    >>> found.fit.table()  # doctest: +SKIP
    """
    check_arguments(
        "covariate_search",
        fit=(fit, a(MaximumLikelihood)),
        candidates=(candidates, MAPPING | NONE),
        forms=(forms, several(one_of(*_CONTINUOUS), f"a list of {', '.join(_CONTINUOUS)}")),
        forward=(forward, SHARE),
        backward=(backward, SHARE),
        fits=(fits, from_to(1)),
        least=(least, from_to(1)),
    )
    if not forms:
        allowed = ", ".join(_CONTINUOUS)
        raise PkpdError(where="covariate_search, forms", what="is empty", allowed=allowed)
    if not fit.converged:
        what, remedy = "the fit did not converge", "give a fit that did"
        raise PkpdError(where="covariate_search, fit", what=what, remedy=remedy)
    refuse_priors(fit, "covariate_search, fit")
    began = time.perf_counter()
    likelihood = fit.likelihood
    relations, told = candidate_relations(
        likelihood.model, likelihood.dataset, candidates, forms, least
    )
    program, log = SearchProgram(fit, relations), _Log(relations)
    at, order = program.begin, list[int]()
    while (added := _forward(program, log, at, forward, fits)) is not None:
        number, at = added
        order.append(number)
        _say(progress, log)
    _say(progress, log)
    log.direction = "backward"
    while order and (removed := _backward(program, log, at, backward)) is not None:
        number, at = removed
        order.remove(number)
        _say(progress, log)
    seconds = time.perf_counter() - began
    last = fit
    if order:
        method: Any = fit.method
        last = maximum_likelihood(program.model(at), likelihood.dataset, method=method)
    table = log.table()
    told += _told(table, at, last)
    return CovariateSearch(
        fit, last, tuple(relations[i].name for i in order), table, tuple(told), seconds
    )


def _say(progress: bool, log: _Log) -> None:
    if progress and log.rows:
        done = [row for row in log.rows if row["step"] == log.step]
        said = [f"{r['relation']} {r['decision']}" for r in done if r["decision"] in _DONE]
        count = sum(r["decision"] != "not fitted" for r in done)
        words = f"step {log.step} {log.direction}: {count} fits; {', '.join(said) or 'no change'}"
        print(words, flush=True)  # noqa: T201


_DONE = ("added", "removed")


def _forward(
    program: SearchProgram, log: _Log, at: FittedRelations, limit: float, fits: int
) -> tuple[int, FittedRelations] | None:
    """Add a relation; ``None`` if none is good enough."""
    taken = {log.relations[i].pair for i in at.included}
    left = [i for i, one in enumerate(log.relations) if one.pair not in taken]
    if not left:
        return None
    log.step += 1
    ranked = []
    for i in left:
        score = program.score(at, i)
        if score is None:
            log.add(i, why="what the model has already leaves nothing of it")
            continue
        p, logarithm = _tail(score.statistic, len(log.relations[i].effects))
        row = log.add(i, score=score.statistic, score_p=p, why="others have better scores")
        ranked.append((logarithm, i, score, row))
    ranked.sort(key=lambda one: one[0])
    best: tuple[float, int, FittedRelations, dict[str, Any]] | None = None
    good = 0
    for promised, i, score, row in ranked:
        if good >= fits and best is not None and promised >= best[0]:
            break
        found = program.with_relation(at, i, score)
        if isinstance(found, str):
            row.update(decision="failed", why=found)
            continue
        good += 1
        fall = at.objective - found.objective
        p, logarithm = _tail(max(fall, 0.0), len(log.relations[i].effects))
        row.update(objective=found.objective, difference=-fall, p=p, decision="left out")
        row["why"] = f"p is not below {limit:g}" if p >= limit else "another has a lower p"
        if best is None or logarithm < best[0]:
            best = (logarithm, i, found, row)
    if best is None or best[3]["p"] >= limit:
        return None
    best[3].update(decision="added", why=f"the lowest p, below {limit:g}")
    return best[1], best[2]


def _backward(
    program: SearchProgram, log: _Log, at: FittedRelations, limit: float
) -> tuple[int, FittedRelations] | None:
    """Remove a relation; ``None`` if all are needed."""
    log.step += 1
    worst: tuple[float, int, FittedRelations, dict[str, Any]] | None = None
    for i in sorted(at.included):
        row = log.add(i, decision="kept")
        found = program.without_relation(at, i)
        if isinstance(found, str):
            row.update(decision="failed", why=f"{found}; it stays")
            continue
        rise = found.objective - at.objective
        p, logarithm = _tail(max(rise, 0.0), len(log.relations[i].effects))
        row.update(objective=found.objective, difference=rise, p=p)
        row["why"] = f"p is below {limit:g}" if p < limit else "another has a higher p"
        if worst is None or logarithm > worst[0]:
            worst = (logarithm, i, found, row)
    if worst is None or worst[3]["p"] < limit:
        return None
    worst[3].update(decision="removed", why=f"the highest p, not below {limit:g}")
    return worst[1], worst[2]


def _told(table: pd.DataFrame, at: FittedRelations, last: MaximumLikelihood) -> list[str]:
    """Sentences on fits that failed and on a search that missed a minimum."""
    told = []
    failed: Any = table[table["decision"] == "failed"]
    if len(failed):
        names = ", ".join(
            f"{row.relation} in step {row.step} ({row.why})" for row in failed.itertuples()
        )
        told.append(f"{len(failed)} fits failed: {names}.")
    if abs(last.objective - at.objective) > _ABOVE:
        told.append(
            f"The last fit ends at {last.objective:.2f} and its search at {at.objective:.2f}: "
            "subjects have several modes of random effects, and differences within the search may "
            "be wrong by as much."
        )
    if not last.converged:
        told.append("The last fit did not converge.")
    return told
