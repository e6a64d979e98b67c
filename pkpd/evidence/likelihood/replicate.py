"""Draw what trials would have published: replicates of a table at given parameters.

Replicates follow the likelihood exactly: a study draws its deviation and its reading of unstated
definitions; probabilities are drawn around the simulated shares with their Monte Carlo error; then
patients are drawn. For predictive checks, and for tables with known truth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pkpd.evidence.likelihood.order_statistics import EVEN, FREEDOM, Sample
from pkpd.evidence.likelihood.terms import Arm, Reading, Term, category_shares, standard_error
from pkpd.evidence.likelihood.total import EvidenceLikelihood
from pkpd.evidence.table.arms import ArmSeen
from pkpd.evidence.table.table import EvidenceRow

Floats = NDArray[np.float64]


def replicate(
    likelihood: EvidenceLikelihood,
    theta: Mapping[str, float],
    seen: Mapping[str, ArmSeen],
    rng: np.random.Generator,
    shares: dict[str, float] | None = None,
) -> dict[str, EvidenceRow]:
    """Draw every used row anew.

    Parameters
    ----------
    likelihood
        Its terms are replicated.
    theta
        Parameters.
    seen
        Arms simulated at them (with `StudyEffects.for_simulation`).
    rng
        Random numbers.
    shares
        Gets the probability of the event for each row that counts patients.

    Returns
    -------
    dict
        Row id -> row with new numbers. A tolerated dose has value 1 if it is declared so, else 0.
    """
    effects = likelihood.effects
    rows: dict[str, EvidenceRow] = {}
    for study in likelihood.studies:
        deviation = effects.draw(theta, rng)
        readings: dict[tuple[str, ...], int] = {}
        arms: dict[str, Arm] = {}
        for term in (t for t in likelihood.terms if t.study == study):
            for key in term.arm_keys:
                if key not in arms:
                    arm = seen[key]
                    weights, size = effects.weights_at(theta, arm.weight, arm.scores, deviation)
                    arms[key] = Arm(arm, weights, size, theta)
            if term.family not in readings:
                chances = np.exp([reading.log_probability for reading in term.readings])
                readings[term.family] = int(rng.choice(len(chances), p=chances / chances.sum()))
            index = readings[term.family] if term.family else 0
            for row in _drawn(
                term, arms, term.readings[index], rng, {} if shares is None else shares
            ):
                rows[row.id] = row
    return rows


def _drawn(
    term: Term,
    arms: Mapping[str, Arm],
    reading: Reading,
    rng: np.random.Generator,
    chances: dict[str, float],
) -> tuple[EvidenceRow, ...]:
    row = term.rows[0]
    arm = arms[row.arm]
    what = reading.observables[0]
    n = row.denominator or row.n or 1
    if term.kind == "beta-binomial":
        share, size = arm.share(what)
        chances[row.id] = _probability(share[0], size[0], rng)
        k = int(rng.binomial(n, chances[row.id]))
        return (replace(row, numerator=k, value=k / n),)
    if term.kind == "Dirichlet-multinomial":
        shares, size = category_shares(arm, reading.observables)
        probabilities = rng.dirichlet(size[0] * shares[0] + 0.5)
        chances.update({r.id: float(p) for r, p in zip(term.rows, probabilities, strict=False)})
        drawn = rng.multinomial(n, probabilities)
        return tuple(
            replace(each, numerator=int(k), value=k / n)
            for each, k in zip(term.rows, drawn, strict=False)
        )
    if term.kind == "tolerated dose":
        passed = _passes(*arm.share(what), rng)
        next_passed = _passes(*arms[term.arm_keys[1]].share(what), rng)
        return (replace(row, value=float(passed and not next_passed)),)
    sample, _ = arm.sample(what)
    patients = row.n or 1
    if sample.values.size == 0:
        return (replace(row, value=float("nan")),)
    if term.kind in ("ratio", "difference"):
        second, _ = arms[term.arm_keys[1]].sample(what)
        return (replace(row, value=_compared(term.kind, row, sample, second, patients, rng)),)
    values = np.exp(np.sort(urn(sample, patients, rng)))
    if what.kind == "baseline":
        printed = np.array([float(f"{value:.2g}") for value in values])
    else:
        printed = np.round(values)
    middle = patients // 2 if patients % 2 else patients // 2 - int(rng.integers(2))
    value = float(printed[middle])
    if term.kind.startswith("mean"):
        value = float(np.round(values.mean()))
    lower, upper = row.lower, row.upper
    if term.kind.endswith("range"):
        lower, upper = float(printed[0]), float(printed[-1])
    elif term.kind == "quartiles":
        lower = float(printed[int(np.ceil(0.25 * patients)) - 1])
        upper = float(printed[int(np.ceil(0.75 * patients)) - 1])
    return (replace(row, value=value, lower=lower, upper=upper),)


def urn(sample: Sample, n: int, rng: np.random.Generator) -> Floats:
    """Draw n patients whose distribution is a Dirichlet process about the simulated one.

    The number of patients in any cells is then Dirichlet-multinomial as in
    `pkpd.evidence.likelihood.order_statistics`. Polya's urn: the next patient is new, or repeats
    one before.
    """
    size = float(sample.size[0])
    weights = sample.weights[0] / sample.weights[0].sum()
    low, high = sample.support
    values = np.empty(n)
    uniform = rng.random((n, 2))
    own = rng.choice(sample.values, size=n, p=weights) + sample.bandwidth * rng.standard_normal(n)
    centre, scale = sample.student
    tails = centre[0] + scale[0] * rng.standard_t(FREEDOM, n)
    own = np.where(rng.random(n) < sample.student_share[0], tails, own)
    spread = low + (high - low) * rng.random(n)
    fresh = np.where(uniform[:, 0] * (size + EVEN) < EVEN, spread, own)
    for i in range(n):
        repeats = uniform[i, 1] * (size + EVEN + i) >= size + EVEN
        values[i] = values[rng.integers(i)] if repeats else fresh[i]
    return values


def _probability(share: float, size: float, rng: np.random.Generator) -> float:
    return float(rng.beta(size * share + 0.5, size * (1.0 - share) + 0.5))


def _passes(share: Floats, size: Floats, rng: np.random.Generator) -> bool:
    p = _probability(share[0], size[0], rng)
    first, second = rng.binomial(3, p, size=2)
    return bool(first == 0 or (first == 1 and second == 0))


def _compared(
    kind: str,
    row: EvidenceRow,
    first: Sample,
    second: Sample,
    n: int,
    rng: np.random.Generator,
) -> float:
    total, variance = 0.0, 0.0
    sd = standard_error(row)
    for sign, sample in ((1.0, first), (-1.0, second)):
        x = np.log(sample.printed) if kind == "ratio" else sample.printed
        mean = float(sample.weights[0] @ x)
        own = float(sample.weights[0] @ x**2) - mean**2
        total += sign * mean
        variance += own / float(sample.size[0]) + (own / n if sd is None else sd**2 / 2.0)
    drawn = total + np.sqrt(variance) * rng.standard_normal()
    return float(np.exp(drawn)) if kind == "ratio" else float(drawn)
