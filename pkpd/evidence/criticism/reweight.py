"""A small change of the evidence without sampling again: importance weights of the draws.

Adding, changing or removing rows of some studies changes the likelihood by their factors only, so
that the draws of a posterior, weighted by the ratio of the new factors to the old, stand for the
new posterior, as long as few draws do not take all the weight. Pareto k-hat tells; above 0.7 the
change is refused and the calibration must be run again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from pkpd.errors import PkpdError
from pkpd.evidence.criticism.psis import LIMIT, smoothed_weights
from pkpd.evidence.likelihood.total import EvidenceLikelihood
from pkpd.evidence.posterior.stored import EvidencePosterior

_SHOWN = 3  # parameters that move most


@dataclass(frozen=True)
class Reweighted:
    """A posterior after a small change.

    Attributes
    ----------
    posterior
        The same draws with other weights.
    khat
        Pareto shape of the weights.
    ess
        Effective number of draws, 1 / sum(w^2).
    shift
        Change of each parameter's mean, in SDs before.
    """

    posterior: EvidencePosterior
    khat: float
    ess: float
    shift: dict[str, float]

    def __repr__(self) -> str:
        """Tell how far the posterior moves, and which parameters move most."""
        most = sorted(self.shift, key=lambda name: -abs(self.shift[name]))[:_SHOWN]
        moved = ", ".join(f"{name} {self.shift[name]:+.2f}" for name in most)
        more = len(self.shift) - len(most)
        moved += f" and {more} less" if more else ""
        draws = self.posterior.weights.size
        return (
            f"Reweighted(Pareto k-hat {self.khat:.2f}, {self.ess:.0f} of {draws} draws count; "
            f"means move by (SDs) {moved};\n  posterior {self.posterior!r})"
        )


def reweight(
    posterior: EvidencePosterior,
    added: EvidenceLikelihood | None = None,
    removed: Iterable[str] = (),
    *,
    limit: float = LIMIT,
) -> Reweighted:
    """Weight the draws of a posterior for a change of evidence.

    Parameters
    ----------
    posterior
        Before the change.
    added
        Likelihood of the added or changed studies alone, with all their rows. A study that the
        posterior knows already is replaced.
    removed
        Studies taken out.
    limit
        Largest k-hat that is accepted.

    Raises
    ------
    PkpdError
        If k-hat is above the limit, or a removed study is not in the posterior.
    """
    out = set(removed)
    if added is not None:
        out |= set(added.studies) & set(posterior.studies)
    unknown = out - set(posterior.studies)
    if unknown:
        raise PkpdError(
            where="reweighting", what=f"no study {sorted(unknown)[0]!r} in the posterior"
        )
    before = np.log(np.maximum(posterior.weights.ravel(), 1e-300))
    places = [posterior.studies.index(study) for study in out]
    change = -posterior.by_study[..., places].sum(axis=-1).ravel()
    if added is not None:
        thetas = [
            {**posterior.fixed, **dict(zip(posterior.names, map(float, row), strict=True))}
            for row in posterior.flat()
        ]
        change = change + np.array([added(theta).total for theta in thetas])
    weights, khat = smoothed_weights(before + change)
    if not khat <= limit:
        raise PkpdError(
            where="reweighting",
            what=f"Pareto k-hat is {khat:.2f}, above {limit:g}: the posterior moves too far",
            remedy="run the calibration again with the new evidence",
        )
    shape = posterior.weights.shape
    changed = replace(
        posterior,
        weights=weights.reshape(shape),
        record={
            **posterior.record,
            "reweighted": {"added": list(added.studies) if added else [], "removed": sorted(out)},
        },
    )
    flat = posterior.flat()
    sd = np.sqrt(np.maximum(posterior.weights.ravel() @ (flat - flat.mean(axis=0)) ** 2, 1e-300))
    moved = (weights @ flat - posterior.weights.ravel() @ flat) / sd
    return Reweighted(
        changed,
        khat,
        float(1.0 / np.sum(weights**2)),
        dict(zip(posterior.names, map(float, moved), strict=True)),
    )
