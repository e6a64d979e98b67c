"""Leave studies out; how many rows their intervals hold; which rows taught what."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from pkpd.arrays import Floats
from pkpd.evidence.criticism.psis import LIMIT, smoothed_weights
from pkpd.evidence.criticism.row_predictions import RowCheck, predict_table
from pkpd.evidence.likelihood.total import EvidenceLikelihood, Simulator, only_studies
from pkpd.evidence.posterior.stored import EvidencePosterior


@dataclass(frozen=True)
class LeftOutStudy:
    """How well a study is predicted by the others.

    Attributes
    ----------
    study
        Its name.
    elpd
        Log predictive density of its rows jointly, left out.
    khat
        Pareto shape of the weights that leave it out (that asked for the refit, if there was one).
    refitted
        Whether the posterior without it was sampled anew.
    by_term
        Log predictive probability of each of its terms by itself, left out.
    weights : float[N]
        Weights of the posterior's draws that leave it out; empty after a refit.
    without
        The posterior of a refit.
    """

    study: str
    elpd: float
    khat: float
    refitted: bool
    by_term: Mapping[str, float]
    weights: Floats
    without: EvidencePosterior | None = None


def leave_studies_out(
    posterior: EvidencePosterior,
    likelihood: EvidenceLikelihood,
    refit: Callable[[str], EvidencePosterior] | None = None,
    limit: float = LIMIT,
) -> tuple[LeftOutStudy, ...]:
    """Leave each study out by importance weights, and by a refit where those cannot be trusted.

    Parameters
    ----------
    posterior
        Of the whole table.
    likelihood
        Its likelihood.
    refit
        Function from a study to the posterior without it, sampled anew; ``None``: no refits, and
        high k-hats are reported as they are.
    limit
        k-hat above which a study is refitted.
    """
    study_of = [term.study for term in likelihood.terms]
    prior_log = np.log(np.maximum(posterior.weights.ravel(), 1e-300))
    answers = []
    for index, study in enumerate(posterior.studies):
        mine = posterior.by_study[..., index].ravel()
        weights, khat = smoothed_weights(prior_log - mine)
        without = refit(study) if khat > limit and refit is not None else None
        draws, kept = (posterior, weights) if without is None else (without, without.weights)
        log_w = np.log(np.maximum(kept.ravel(), 1e-300))
        by_term = {
            name: float(np.logaddexp.reduce(log_w + draws.by_term[..., i].ravel()))
            for i, name in enumerate(posterior.terms)
            if study_of[i] == study
        }
        elpd = float(np.logaddexp.reduce(log_w + draws.by_study[..., index].ravel()))
        own = weights if without is None else np.zeros(0)
        answers.append(LeftOutStudy(study, elpd, khat, without is not None, by_term, own, without))
    return tuple(answers)


def left_out_checks(
    posterior: EvidencePosterior,
    likelihood: EvidenceLikelihood,
    simulate: Callable[[int], Simulator],
    left_out: Iterable[LeftOutStudy],
    *,
    draws: int = 200,
    level: float = 0.90,
    repeats: int = 8,
    seed: int = 1,
) -> tuple[RowCheck, ...]:
    """Predict every row from the studies other than its own.

    Parameters
    ----------
    posterior, likelihood
        Of the whole table.
    simulate
        From a seed to a simulator of all arms.
    left_out
        From :func:`leave_studies_out`.
    draws
        Posterior draws to simulate.
    level
        Of the intervals.
    repeats
        Replicates of each row and draw.
    seed
        Of draws, patients and replicates.
    """
    left_out = tuple(left_out)
    chosen = posterior.chosen(draws, seed)
    base = np.maximum(posterior.weights.ravel()[chosen], 1e-300)
    # the chosen draws stand for the posterior: the weights that remain are ratios to it
    weights = {s.study: s.weights[chosen] / base for s in left_out if s.weights.size}
    found = predict_table(
        likelihood, simulate, posterior.draws(draws, seed), repeats=repeats, seed=seed
    )
    checks = found.checks(level, seed, weights)
    again: dict[str, RowCheck] = {}
    for study in left_out:
        if study.without is not None:
            own = only_studies(likelihood, (study.study,))
            new = predict_table(
                own, simulate, study.without.draws(draws, seed), repeats=repeats, seed=seed
            ).checks(level, seed)
            again |= {entry.row.id: entry for entry in new}
    return tuple(again.get(check.row.id, check) for check in checks)


@dataclass(frozen=True)
class Coverage:
    """How many rows lie inside their predictive intervals.

    Attributes
    ----------
    kind
        Kind of likelihood, or ``all``.
    rows, inside
        Numbers.
    """

    kind: str
    rows: int
    inside: int

    @property
    def share(self) -> float:
        """Share inside; NaN without rows."""
        return self.inside / self.rows if self.rows else float("nan")


def coverage(checks: Iterable[RowCheck]) -> tuple[Coverage, ...]:
    """Coverage by kind of likelihood, and of all rows."""
    checks = tuple(checks)
    kinds = dict.fromkeys(check.kind for check in checks)
    answer = [
        Coverage(kind, sum(c.kind == kind for c in checks), sum(c.inside for c in checks
                                                                if c.kind == kind))
        for kind in kinds
    ]  # fmt: skip
    answer.append(Coverage("all", len(checks), sum(check.inside for check in checks)))
    return tuple(answer)


def coverage_table(checks: Iterable[RowCheck], level: float = 0.90) -> str:
    """Print coverage, then the rows outside, the farthest first."""
    checks = tuple(checks)
    lines = [f"{'kind':22} {'rows':>5} {'inside':>7} {'share':>6}   ({level:.0%} intervals)"]
    lines += [f"{c.kind:22} {c.rows:5d} {c.inside:7d} {c.share:6.2f}" for c in coverage(checks)]
    outside = sorted((c for c in checks if not c.inside), key=lambda c: min(c.pit, 1 - c.pit))
    lines += [
        f"outside: {c.row.id} printed {c.observed:.3g}, predicted {c.median:.3g} "
        f"({c.lower:.3g} to {c.upper:.3g})"
        for c in outside
    ]
    return "\n".join(lines)


def influence(posterior: EvidencePosterior, by: str = "term") -> Floats:
    """Change of each parameter's posterior mean if a row or study counted a little less.

    Parameters
    ----------
    posterior
        The posterior.
    by
        ``term`` (each term by itself) or ``study`` (exact for whole studies).

    Returns
    -------
    float[T or S, d]
        Minus the derivative of the mean score with respect to the power of the factor, in
        posterior SDs: -0.5 says that leaving half of it out moves the mean down by about a quarter
        of a posterior SD. It is minus the posterior covariance of the score with the factor's log
        likelihood.
    """
    pieces = posterior.by_term if by == "term" else posterior.by_study
    flat = pieces.reshape(-1, pieces.shape[-1])
    z = posterior.z.reshape(-1, len(posterior.names))
    weights = posterior.weights.ravel()
    z_centred = z - weights @ z
    sd = np.sqrt(weights @ z_centred**2)
    centred = flat - weights @ flat
    return -(centred * weights[:, None]).T @ z_centred / sd


def influence_table(posterior: EvidencePosterior, most: int = 5) -> str:
    """Print, for each parameter, the terms that hold its mean where it is."""
    matrix = influence(posterior)
    lines = []
    for index, name in enumerate(posterior.names):
        order = np.argsort(-np.abs(matrix[:, index]))[:most]
        told = "; ".join(f"{posterior.terms[i]} {matrix[i, index]:+.2f}" for i in order)
        lines.append(f"{name}: {told}")
    return "\n".join(lines)
