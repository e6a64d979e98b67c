"""Likelihood of published numbers of patients, given finitely many simulated ones.

An arm is simulated with finitely many patients, so its true probability p of an event is known only
up to Monte Carlo error. With X of M simulated patients having the event and Jeffreys' prior,
p given X is Beta(X + 1/2, M - X + 1/2). The published k of n patients is Binomial(n, p); with p
integrated out it is beta-binomial. Several categories give the Dirichlet-multinomial in the same
way. Where simulated patients carry weights, M is their effective number 1 / sum(w^2) and X is
M times the weighted share.

Patients simulated from the same random numbers at all parameters make the simulated share a smooth
function of them; it varies less than a binomial one if the numbers are quasi-random, so that the
error allowed here is an upper bound.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaln, gammaln

Floats = NDArray[np.float64]


def count_log_likelihood(events: int, patients: int, share: Floats, size: Floats) -> Floats:
    """Log probability of a published count (beta-binomial).

    Parameters
    ----------
    events, patients
        Published numerator and denominator.
    share : float[K]
        Weighted share of simulated patients with the event.
    size : float[K]
        Effective number of simulated patients.

    Returns
    -------
    float[K]
    """
    with_event = size * share + 0.5
    without = size * (1.0 - share) + 0.5
    ways = gammaln(patients + 1) - gammaln(events + 1) - gammaln(patients - events + 1)
    return (
        ways
        + betaln(events + with_event, patients - events + without)
        - betaln(with_event, without)
    )


def categories_log_likelihood(counts: ArrayLike, shares: Floats, size: Floats) -> Floats:
    """Log probability of patients counted in exclusive categories (Dirichlet-multinomial).

    Parameters
    ----------
    counts : int[C]
        Published numbers, all patients included (the last category is often "none of these").
    shares : float[K, C]
        Weighted shares of simulated patients.
    size : float[K]
        Effective number of simulated patients.

    Returns
    -------
    float[K]
    """
    numbers = np.asarray(counts, dtype=np.float64)
    weight = size[:, None] * shares + 0.5
    total, n = weight.sum(axis=1), numbers.sum()
    ways = gammaln(n + 1) - gammaln(numbers + 1).sum()
    each = gammaln(weight + numbers) - gammaln(weight)
    return ways + each.sum(axis=1) + gammaln(total) - gammaln(total + n)


def tolerated_log_likelihood(
    share: Floats, size: Floats, share_next: Floats, size_next: Floats, *, declared: bool = True
) -> Floats:
    """Log probability that a dose is declared tolerated and the next one not, in a 3 + 3 design.

    A level with toxicity probability p is passed with 0 of 3, or with 1 of 3 and 0 of 3 more:
    ``(1-p)^3 + 3 p (1-p)^5`` (Storer, Biometrics 1989;45:925). Its mean over p given the simulated
    patients is a sum of beta moments.

    Parameters
    ----------
    share, share_next : float[K]
        Weighted share of simulated patients with a dose-limiting toxicity, at the tolerated dose
        and at the one that was not.
    size, size_next : float[K]
        Effective numbers of simulated patients.
    declared
        False: log probability that a trial does not declare this dose.
    """
    passed = _pass_probability(share, size)
    failed = 1.0 - _pass_probability(share_next, size_next)
    chance = passed * failed
    return np.log(np.maximum(chance if declared else 1.0 - chance, 1e-300))


def _pass_probability(share: Floats, size: Floats) -> Floats:
    a, b = size * share + 0.5, size * (1.0 - share) + 0.5
    none_of_three = np.exp(betaln(a, b + 3.0) - betaln(a, b))
    one_then_none = 3.0 * np.exp(betaln(a + 1.0, b + 5.0) - betaln(a, b))
    return none_of_three + one_then_none
