"""Individual parameters: typical values, covariates and individual deviations combined.

One function evaluates the relations of any card (`pkpd.cards.relations`):

    individual = max(lowest, (sum of terms) x (covariate effects)) x exp(SD x score)

Arrays have draws first and patients last, ``[m, n]``.  The functions are written with an array
module ``xp`` (``jax.numpy`` unless told otherwise), so they can be compiled and differentiated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

import pkpd.float64  # noqa: F401  (before anything is traced)
from pkpd.cards.model_cards import ModelCard
from pkpd.cards.relations import CardEffect, Individual
from pkpd.errors import DataError
from pkpd.model.joint import JointModel
from pkpd.subjects import PatientSample

#: Smallest count at start (10^9/L): a count reported as 0 is below what is counted, not none.
LOWEST_COUNT = {"anc": 0.01, "plt": 1.0, "wbc": 0.05, "circ0": 0.01}

Arrays = Mapping[str, Any]


def scores_used(model: JointModel) -> tuple[str, ...]:
    """Name the normal scores that the individual parameters of a model use."""
    names = dict.fromkeys(["population.mtt_factor", "population.sensitivity", "population.relief"])
    for namespace, card in model.cards:
        for spread in card.iiv:
            names[spread.score or f"{namespace}.{spread.parameter}"] = None
    return tuple(names)


def patient_arrays(model: JointModel, sample: PatientSample) -> dict[str, Any]:
    """Gather what `individual_parameters` needs of the patients.

    Returns
    -------
    dict
        Covariate -> float[n], and ``"eta:<name>"`` -> float[n] for each normal score used.
    """
    arrays: dict[str, Any] = dict(sample.covariates)
    for name in scores_used(model):
        arrays[f"eta:{name}"] = sample.normal_score(name)
    return arrays


def individual_parameters(
    model: JointModel,
    typical: Arrays,
    patients: PatientSample | Arrays,
    xp: Any = None,
) -> dict[str, Any]:
    """Give every individual parameter of drugs, effects and marrow lines.

    Parameters
    ----------
    model
        The joint model.
    typical
        Namespaced parameter -> float[m], from `typical` or `draw_parameters`; or float[1, n], where
        every patient has values of its own.
    patients
        A sample, or the arrays of `patient_arrays`, float[n].
    xp
        Array module; ``jax.numpy`` by default.

    Returns
    -------
    dict
        ``"<drug>.<parameter>"``, ``"<drug>.effect.<parameter>"``, ``"<line>.<parameter>"`` and for
        each line ``"<line>.baseline"`` and ``"<line>.set_point"`` -> float[m, n], internal units.

    Raises
    ------
    DataError
        If a parameter or covariate that a relation uses is missing.

    Notes
    -----
    Set point of a line whose count at start ``b`` comes from the patient: with the patient's
    normal count ``N`` and the population's ``relief`` r it is ``b^(1-r) N^r`` where ``b < N``
    (r = 0: the marrow returns to where it was, r = 1: to normal), else ``min(b, upper limit)``,
    because cells above normal at start are taken as leukaemic.
    """
    if xp is None:
        import jax.numpy as xp  # type: ignore[no-redef]
    if isinstance(patients, PatientSample):
        patients = patient_arrays(model, patients)
    evaluation = _Evaluation(typical, patients, xp)
    result: dict[str, Any] = {}
    for namespace, card in model.cards:
        values = evaluation.card(namespace, card)
        result |= {f"{namespace}.{name}": value for name, value in values.items()}
        if card.kind == "marrow":
            result |= evaluation.counts(namespace, card, values)
    result = {name: xp.asarray(value) for name, value in result.items()}  # a number alone too
    shape = np.broadcast_shapes(*(value.shape for value in result.values())) if result else ()
    return {name: xp.broadcast_to(value, shape) for name, value in result.items()}


class _Evaluation:
    """Values of names in relations, for given draws and patients."""

    def __init__(self, typical: Arrays, patients: Arrays, xp: Any) -> None:
        self.typical = typical
        self.patients = patients
        self.xp = xp

    def parameter(self, name: str) -> Any:
        """Typical value, [m, 1], or [1, n] where every patient has its own."""
        if name not in self.typical:
            raise DataError(
                where="individual parameters",
                what=f"the parameter '{name}' has no value",
                remedy="take the dict from typical() or draw_parameters() of the same model",
            )
        return _draws_first(self.xp.asarray(self.typical[name]))

    def covariate(self, name: str) -> Any:
        """Covariate or score, [1, n]."""
        if name not in self.patients:
            raise DataError(
                where="patients",
                what=f"'{name}' is missing",
                remedy="add the covariate to the population card, or to the patients",
            )
        return self.xp.reshape(self.xp.asarray(self.patients[name]), (1, -1))

    def population(self, name: str) -> Any:
        """Marrow setting of each patient, [m, n] or [m, 1]."""
        value = self.parameter(name)
        spread = name.replace("population.", "population.iiv.", 1)
        if spread in self.typical:
            score = self.covariate(f"eta:{name}")
            value = value * self.xp.exp(self.parameter(spread) * score)
        return value

    def renal_function(self, numbers: tuple[float, float, float]) -> Any:
        """Creatinine clearance, capped per 1.73 m^2, as a share of a reference per body weight."""
        cap, per, weight = numbers
        bsa = self.covariate("bsa")
        normalised = self.xp.minimum(self.covariate("crcl") * 1.73 / bsa, cap)
        litres_per_hour = normalised * bsa / 1.73 * 0.06
        return litres_per_hour * weight / self.covariate("weight") / per

    def card(self, namespace: str, card: ModelCard) -> dict[str, Any]:
        """Individual parameters of one card, by the card's own names."""
        own = {p.name for p in card.parameters}
        done: dict[str, Any] = {}

        def value(name: str) -> Any:
            if name in own:
                return self.parameter(f"{namespace}.{name}")
            if name.startswith("individual."):
                return done[name.removeprefix("individual.")]
            if name.startswith("population."):
                return self.population(name)
            if name == "renal_function" and card.renal_function is not None:
                return self.renal_function(card.renal_function)
            return self.covariate(name)

        deviations = self._deviations(namespace, card)
        for individual in card.individuals:
            typical = self._relation(individual, value)
            if individual.name in deviations:
                typical = typical * self.xp.exp(deviations[individual.name])
            done[individual.name] = typical
        return done

    def _relation(self, individual: Individual, value: Any) -> Any:
        total: Any = 0.0
        for term in individual.terms:
            part: Any = value(term.parameter) if term.parameter else 1.0
            part = part * term.number
            for name in term.times:
                part = part * value(name)
            for name in term.divided_by:
                part = part / value(name)
            total = total + part
        for effect in individual.effects:
            total = total * self._effect(effect, value)
        if individual.lowest is not None:
            total = self.xp.maximum(total, individual.lowest)
        return total

    def _effect(self, effect: CardEffect, value: Any) -> Any:
        if effect.kind == "power":
            ratio = self.xp.maximum(value(effect.covariate), 1e-6) / effect.reference
            exponent = effect.exponent
            factor = ratio ** (value(exponent) if isinstance(exponent, str) else exponent)
        elif effect.kind == "linear":
            centred = value(effect.covariate) - effect.reference
            factor = 1.0 + value(effect.parameter) * centred
        else:
            factor = value(effect.parameter)
        if effect.inverse:
            factor = 1.0 / factor
        if effect.when:
            x = value(effect.when)
            inside = (x >= effect.at_least) & (x < effect.below)
            factor = self.xp.where(inside, factor, 1.0)
        return factor

    def _deviations(self, namespace: str, card: ModelCard) -> dict[str, Any]:
        """SD x correlated score of each parameter with variability between patients."""
        names = [spread.parameter for spread in card.iiv]
        scores = [
            self.covariate(f"eta:{spread.score or f'{namespace}.{spread.parameter}'}")
            for spread in card.iiv
        ]
        matrix = np.eye(len(names))
        for first, second, r in card.correlations:
            i, j = names.index(first), names.index(second)
            matrix[i, j] = matrix[j, i] = r
        factor = np.linalg.cholesky(matrix) if names else matrix
        result = {}
        for i, name in enumerate(names):
            score = sum(factor[i, j] * scores[j] for j in range(i + 1) if factor[i, j] != 0.0)
            result[name] = self.parameter(f"{namespace}.iiv.{name}") * score
        return result

    def counts(self, line: str, card: ModelCard, values: Mapping[str, Any]) -> dict[str, Any]:
        """Count at start and set point of a line (see `individual_parameters`)."""
        floor = LOWEST_COUNT[card.baseline]
        if card.baseline == "circ0":
            circ0 = self.xp.maximum(values["circ0"], floor)
            return {f"{line}.baseline": circ0, f"{line}.set_point": circ0}
        baseline = self.xp.maximum(self.covariate(card.baseline), floor)
        normal = values["normal"]
        upper = self.xp.maximum(values["normal_upper"], normal)
        relief = self.population("population.relief")
        relieved = self.xp.exp(
            (1.0 - relief) * self.xp.log(baseline) + relief * self.xp.log(normal)
        )
        above = self.xp.minimum(baseline, upper)
        set_point = self.xp.where(baseline < normal, relieved, above)
        return {f"{line}.baseline": baseline, f"{line}.set_point": set_point}


def occasion_scores(
    model: JointModel, sample: PatientSample, n_occasions: int
) -> dict[str, np.ndarray]:
    """Give the normal scores of variability between occasions.

    Returns
    -------
    dict
        ``"<drug>.<parameter>"`` -> float[n_occasions, n]; the scores of an occasion do not depend
        on how many there are.
    """
    return {
        f"{namespace}.{spread.parameter}": np.stack(
            [
                sample.occasion_score(spread.score or f"{namespace}.{spread.parameter}", k)
                for k in range(n_occasions)
            ]
        )
        for namespace, card in model.cards
        for spread in card.iov
        if n_occasions > 0
    }


def occasion_factors(typical: Arrays, scores: Arrays, xp: Any = None) -> dict[str, Any]:
    """Give the factor of each individual parameter on each occasion.

    Parameters
    ----------
    typical
        As for `individual_parameters`.
    scores
        From `occasion_scores`.
    xp
        Array module; ``jax.numpy`` by default.

    Returns
    -------
    dict
        ``"<drug>.<parameter>"`` -> float[m, n_occasions, n], to multiply ``[m, 1, n]`` with.
    """
    if xp is None:
        import jax.numpy as xp  # type: ignore[no-redef]
    result = {}
    for name, score in scores.items():
        drug, parameter = name.rsplit(".", 1)
        sd = _draws_first(xp.asarray(typical[f"{drug}.iov.{parameter}"]))[:, None]
        result[name] = xp.exp(sd * xp.asarray(score)[None])
    return result


def _draws_first(values: Any) -> Any:
    """Values of draws ``[m, 1]``; those of patients ``[1, n]`` stay as they are."""
    return values if values.ndim == 2 else values.reshape(-1, 1)
