"""What a risk rests on: belief before any trial, other trials, and the trial's own published rows.

Three ensembles meet the same patients: draws of the prior, posterior draws weighted so that the
trial's own rows do not count, and posterior draws. What the trial printed can be called predicted
by the second alone. Cohorts of one trial differ, in a draw of the prior, by at most as much as the
structure of the model lets them; only draws in which enough patients can be judged show it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pkpd.arrays import Floats
from pkpd.cards.files import nearest_of
from pkpd.comparison.results import Figure, Question
from pkpd.comparison.shares import INTERVAL, figure, mean_of_known
from pkpd.comparison.uncertainty import fewest_draws
from pkpd.evidence.criticism.psis import LIMIT, smoothed_weights
from pkpd.evidence.posterior.stored import EvidencePosterior
from pkpd.trials import Trial

Verdicts = Mapping[str, Floats]
"""Cohort -> 1 or 0 ``[draws, patients]``, NaN where there is no verdict."""

CHANCE = 0.05
"""Standard error of the difference of two cohorts in a draw, from its patients, that is small."""
FEWEST_JUDGED = 20
"""Patients of a draw below which its differences say nothing, whatever the error of the others."""
PRIOR_DRAWS, PRIOR_PATIENTS = 100, 200
NAME = "what_it_rests_on"


@dataclass(frozen=True)
class OwnRows:
    """Rows of a trial that its posterior has learned from.

    Attributes
    ----------
    studies
        Names of the trial in the table of outcomes, of those learned from; none: it is unseen.
    weights : float[draws]
        Of the posterior draws, so that these rows do not count; they sum to 1.
    khat
        Pareto shape of the weights.
    unknown
        Names of the trial that the posterior has not learned from, in words.
    """

    studies: tuple[str, ...]
    weights: Floats
    khat: float = -np.inf
    unknown: tuple[str, ...] = ()

    @property
    def trusted(self) -> bool:
        """Whether the weights can be."""
        return self.khat <= LIMIT


def own_rows(posterior: EvidencePosterior, trial: Trial, draws: int, seed: int) -> OwnRows:
    """Weights that leave a trial's own rows out, of draws that `EvidencePosterior.draws` gives."""
    names = _names(posterior, trial)
    known = tuple(name for name in names if name in posterior.studies)
    even = np.full(draws, 1.0 / draws)
    unknown = tuple(
        f"{name}{nearest_of(name, posterior.studies)}"
        for name in trial.evidence_studies
        if name not in posterior.studies
    )
    if not known:
        return OwnRows((), even, unknown=unknown)
    places = [posterior.studies.index(name) for name in known]
    pieces = posterior.by_study.reshape(-1, len(posterior.studies))[:, places].sum(axis=1)
    base = np.maximum(posterior.weights.ravel(), 1e-300)
    weights, khat = smoothed_weights(np.log(base) - pieces)
    chosen = posterior.chosen(draws, seed)
    # the chosen draws stand for the posterior: the weights that remain are ratios to it
    own = weights[chosen] / base[chosen]
    if np.ptp(base) > 0.0:  # of a posterior that was weighted they are a second weighting
        own, again = smoothed_weights(np.log(np.maximum(own, 1e-300)))
        khat = max(khat, again)
    return OwnRows(known, own / own.sum(), khat, unknown)


def _names(posterior: EvidencePosterior, trial: Trial) -> tuple[str, ...]:
    """Names of a trial's rows: its card's, else its own, and those that took their place.

    Rows of one's own that replace some of a study are of its patients, under another name.
    """
    names = dict.fromkeys(trial.evidence_studies or (trial.id, trial.name))
    earlier: Any = posterior.record.get("reweighted", [])
    for change in earlier if isinstance(earlier, list) else [earlier]:
        if names.keys() & set(change.get("removed", ())):
            names |= dict.fromkeys(change.get("added", ()))
    return tuple(names)


def what_it_rests_on(
    trial: Trial, verdicts: Verdicts, prior: Verdicts, own: OwnRows, printed: Mapping[str, str]
) -> Question | None:
    """Tell the risk of the trial's DLT before, without its own rows, and after.

    Parameters
    ----------
    trial
        As run.
    verdicts
        On the DLT, of its cohorts under posterior draws.
    prior
        The same under draws of the prior.
    own
        Its rows among those learned from.
    printed
        Cohort -> what the trial printed of it.

    Returns
    -------
    Question or None
        ``None`` if the rule has a verdict on nobody.
    """
    judged = [c.id for c in trial.cohorts if c.id in verdicts and np.isfinite(verdicts[c.id]).any()]
    if not judged:
        return None
    rows: list[tuple[str | Figure, ...]] = []
    for cohort in judged:
        after, before = mean_of_known(verdicts[cohort]), mean_of_known(prior[cohort])
        without = (weighted(after, own.weights),) if own.studies and own.trusted else ()
        cells = (figure(before), *without, figure(after), printed.get(cohort, ""))
        rows.append((cohort, *cells))
    alone = ("without its own rows, median",) if own.studies and own.trusted else ()
    return Question(
        trial.id,
        NAME,
        "What does this rest on?",
        f"Risk of the DLT in three ensembles: {PRIOR_DRAWS} draws of what was believed before any "
        "trial"
        + (", posterior draws weighted so that this trial's own rows do not count" if alone else "")
        + ", and posterior draws. Medians and 90 % intervals over shares of single draws, the "
        "chance of the simulated patients included; the risk in the tables is that of all who can "
        "be judged in all draws, and its interval is freed of that chance.",
        ("cohort", "prior, median", *alone, "posterior, median", "published"),
        tuple(rows),
        (
            *_own_in_words(own),
            *_largest_in_words([prior[c] for c in judged], [verdicts[c] for c in judged]),
        ),
    )


def weighted(by_draw: Floats, weights: Floats) -> Figure:
    """Median and 90 % interval over weighted draws; NaN draws are left out."""
    known = np.isfinite(by_draw)
    if not known.any():
        return Figure(np.nan, unit="probability")
    x, w = by_draw[known], weights[known]
    order = np.argsort(x)
    reached = np.cumsum(w[order]) / w.sum()
    places = np.minimum(np.searchsorted(reached, INTERVAL), x.size - 1)
    low, middle, high = x[order][places]
    if x.size < fewest_draws():
        return Figure(float(middle), unit="probability")
    return Figure(float(middle), float(low), float(high), "probability")


def _own_in_words(own: OwnRows) -> list[str]:
    if not own.studies:
        names = " or ".join(own.unknown) or "the name of this trial"
        return [
            f"no row under {names} is among those learned from: the posterior "
            "predicts it; the same schedule may be among them as another trial's"
        ]
    names = " and ".join(own.studies)
    if own.unknown:
        names += f"; none is called {' or '.join(own.unknown)}"
    if own.trusted:
        effective = 1.0 / float(np.sum(own.weights**2))
        return [
            f"rows of this trial ({names}) are among those learned from; without them stands what "
            f"the other trials predict (Pareto k-hat {own.khat:.2f}, {effective:.0f} draws of "
            "weight)"
        ]
    return [
        f"rows of this trial ({names}) are among those learned from, and weights cannot leave them "
        f"out (Pareto k-hat {own.khat:.2f}, above {LIMIT:g}): agreement with them is no test"
    ]


def _spread(verdicts: Sequence[Floats]) -> Floats:
    """Riskiest cohort less the safest, in each draw that counts; empty if too few draws do.

    A draw counts if at least `FEWEST_JUDGED` of its patients are judged in any two cohorts, and so
    many that chance alone leaves a difference with a standard error of `CHANCE` at most: its
    variance is the share of patients, over all draws, who differ one way and are offset by as many
    who differ the other way. Those beyond them differ by their schedules.
    """
    judged, both_ways = np.full(len(verdicts[0]), np.inf), 0.0
    for one, other in itertools.combinations(verdicts, 2):
        pair = one - other
        under_both = np.isfinite(pair).sum(axis=1)
        judged = np.minimum(judged, under_both)
        differ = 2.0 * min((pair > 0.0).sum(), (pair < 0.0).sum())
        both_ways = max(both_ways, differ / max(under_both.sum(), 1))
    counts = judged >= max(FEWEST_JUDGED, both_ways / CHANCE**2)
    if 2 * counts.sum() < counts.size:
        return np.empty(0)
    return np.ptp([mean_of_known(one[counts]) for one in verdicts], axis=0)


def _largest_in_words(prior: Sequence[Floats], posterior: Sequence[Floats]) -> list[str]:
    if len(prior) < 2:
        return []
    before, after = _spread(prior), _spread(posterior)
    if not before.size or not after.size:
        return [
            "how far cohorts differ in a draw, which is what the structure of the model allows, "
            "cannot be told from so few patients who can be judged"
        ]
    return [
        "the riskiest cohort less the safest, in draws with enough patients to judge "
        f"({before.size} of {len(prior[0])} of the prior, {after.size} of {len(posterior[0])} of "
        f"the posterior): {100 * np.median(before):.0f} points in the median draw of the prior, "
        f"{100 * before.max():.0f} in the most extreme, which is what the structure of the model "
        f"allows; {100 * np.median(after):.0f} and {100 * after.max():.0f} in the posterior"
    ]
