"""The conditional density of a likelihood of each kind."""

from __future__ import annotations

from pkpd.fitting.maximum.conditional import ConditionalDensity
from pkpd.fitting.maximum.own_error import OwnErrorDensity
from pkpd.fitting.maximum.serial import SerialDensity
from pkpd.fitting.model.own_error import OwnErrorLikelihood
from pkpd.fitting.model.population_likelihood import PopulationLikelihood
from pkpd.fitting.model.serial import SerialLikelihood


def conditional_density(
    likelihood: PopulationLikelihood, interaction: bool = True
) -> ConditionalDensity:
    """Return the conditional density of a likelihood of any kind.

    Parameters
    ----------
    likelihood, interaction
        See `ConditionalDensity`.
    """
    kind = ConditionalDensity
    if isinstance(likelihood, OwnErrorLikelihood):
        kind = OwnErrorDensity
    elif isinstance(likelihood, SerialLikelihood):
        kind = SerialDensity
    return kind(likelihood, interaction)
