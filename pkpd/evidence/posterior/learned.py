"""What the evidence says on each parameter: prior against posterior."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pkpd.evidence.posterior.stored import EvidencePosterior

LEARNED, A_LITTLE = 0.5, 0.8
"""What is left of the prior's standard deviation of a parameter that was learned, and of one that
the data say a little about."""

MOVED = 0.5
"""Prior SDs by which the mean of a parameter has moved if the data say at least a little."""


@dataclass(frozen=True)
class Learned:
    """What the evidence says on one parameter.

    Attributes
    ----------
    name
        Parameter.
    contraction
        1 - posterior / prior variance of its score: 0 nothing was learned, 1 all.
    shift
        Posterior mean of its score: prior SDs away from the prior median.
    lower, median, upper
        90 % interval and median of the parameter.
    """

    name: str
    contraction: float
    shift: float
    lower: float
    median: float
    upper: float

    @property
    def verdict(self) -> str:
        """In words."""
        left = np.sqrt(max(1.0 - self.contraction, 0.0))
        if left <= LEARNED:
            return "learned from the data"
        if left <= A_LITTLE or abs(self.shift) >= MOVED:
            return "the data say a little"
        return "the data say nothing about this"


def learned(posterior: EvidencePosterior) -> tuple[Learned, ...]:
    """Prior against posterior, for each parameter."""
    z = posterior.z.reshape(-1, len(posterior.names))
    weights = posterior.weights.ravel()
    mean = weights @ z
    variance = weights @ (z - mean) ** 2
    quantiles = posterior.quantiles()
    return tuple(
        Learned(name, float(1.0 - variance[i]), float(mean[i]), *map(float, quantiles[name]))
        for i, name in enumerate(posterior.names)
    )


def learned_table(posterior: EvidencePosterior) -> str:
    """Print what was learned, the most first."""
    lines = [
        f"{'parameter':32} {'contraction':>11} {'shift':>6} {'5 %':>9} {'50 %':>9} {'95 %':>9}"
    ]
    for entry in sorted(learned(posterior), key=lambda e: -e.contraction):
        lines.append(
            f"{entry.name:32} {entry.contraction:11.2f} {entry.shift:6.2f} {entry.lower:9.4g} "
            f"{entry.median:9.4g} {entry.upper:9.4g}  {entry.verdict}"
        )
    return "\n".join(lines)
