"""A small change of the evidence without sampling again: importance weights of the draws.

Adding, changing or removing rows of some studies changes the likelihood by their factors only, so
that the draws of a posterior, weighted by the ratio of the new factors to the old, stand for the
new posterior, as long as few draws do not take all the weight. Pareto k-hat tells; above 0.7 the
change is refused and the calibration must be run again.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np

from pkpd.arrays import Floats
from pkpd.errors import PkpdError
from pkpd.evidence.criticism.psis import LIMIT, smoothed_weights
from pkpd.evidence.likelihood.total import EvidenceLikelihood
from pkpd.evidence.posterior.stored import EvidencePosterior

AGAIN = (
    "run the calibration again with the new evidence: python fits/evidence/learn.py --full --rows "
    "FILE, about an hour"
)
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
    if added is None:
        return reweighted(posterior, out, limit=limit)
    found = [added(theta) for theta in thetas_of(posterior)]
    said = Said(
        added.studies,
        tuple(term.name for term in added.terms),
        np.array([one.by_study for one in found]),
        np.array([one.by_term for one in found]),
    )
    return reweighted(posterior, out, said, limit=limit)


@dataclass(frozen=True)
class Said:
    """What studies say under each draw of a posterior.

    Attributes
    ----------
    studies, terms
        Their names, as of `EvidencePosterior`.
    by_study : float[N, S]
    by_term : float[N, T]
        Log likelihoods under the N draws.
    """

    studies: tuple[str, ...]
    terms: tuple[str, ...]
    by_study: Floats
    by_term: Floats


def thetas_of(posterior: EvidencePosterior) -> list[dict[str, float]]:
    """Give the parameters of every draw, the fixed ones too, in the order of its `flat`."""
    return [
        {**posterior.fixed, **dict(zip(posterior.names, map(float, row), strict=True))}
        for row in posterior.flat()
    ]


def reweighted(
    posterior: EvidencePosterior,
    out: Collection[str],
    said: Said | None = None,
    *,
    limit: float = LIMIT,
    source: Mapping[str, object] | None = None,
) -> Reweighted:
    """Weight the draws of a posterior, whose studies are those after the change.

    Parameters
    ----------
    posterior
        Before the change.
    out
        Studies taken out, those that are replaced among them.
    said
        What the added studies say.
    limit
        Largest k-hat that is accepted.
    source
        What the record of the posterior says of where they come from.

    Raises
    ------
    PkpdError
        As `reweight`.
    """
    unknown = set(out) - set(posterior.studies)
    if unknown:
        raise PkpdError(
            where="reweighting", what=f"no study {sorted(unknown)[0]!r} in the posterior"
        )
    before = np.log(np.maximum(posterior.weights.ravel(), 1e-300))
    places = [posterior.studies.index(study) for study in out]
    pieces = posterior.by_study[..., places].sum(axis=-1).ravel()
    change = np.where(np.isneginf(pieces), 0.0, -pieces)  # such a draw has no weight to give back
    if said is not None:
        change = change + said.by_study.sum(axis=1)
    weights, khat = smoothed_weights(before + change)
    if not khat <= limit:
        raise PkpdError(
            where="reweighting",
            what=f"Pareto k-hat is {khat:.2f}, above {limit:g}: the posterior moves too far",
            remedy=AGAIN,
        )
    changed = _with_studies(
        posterior, out, said, weights.reshape(posterior.weights.shape), source or {}
    )
    flat, old = posterior.flat(), posterior.weights.ravel()
    sd = np.sqrt(np.maximum(old @ (flat - old @ flat) ** 2, 1e-300))
    moved = (weights @ flat - old @ flat) / sd
    return Reweighted(
        changed,
        khat,
        float(1.0 / np.sum(weights**2)),
        dict(zip(posterior.names, map(float, moved), strict=True)),
    )


def _with_studies(
    posterior: EvidencePosterior,
    out: Collection[str],
    said: Said | None,
    weights: Floats,
    source: Mapping[str, object],
) -> EvidencePosterior:
    """Give the draws other weights, and the studies and terms that they have learned from now."""
    shape = posterior.weights.shape
    kept = [i for i, study in enumerate(posterior.studies) if study not in out]
    terms = [
        i for i, t in enumerate(posterior.terms) if study_of_term(t, posterior.studies) not in out
    ]
    by_study, by_term = posterior.by_study[..., kept], posterior.by_term[..., terms]
    studies = tuple(posterior.studies[i] for i in kept)
    names = tuple(posterior.terms[i] for i in terms)
    if said is not None:
        by_study = np.concatenate([by_study, said.by_study.reshape(*shape, -1)], axis=-1)
        by_term = np.concatenate([by_term, said.by_term.reshape(*shape, -1)], axis=-1)
        studies, names = (*studies, *said.studies), (*names, *said.terms)
    # what was found with the weights before, on rows it had not learned from, is not of these
    record = dict(posterior.record)
    if "tested" in record:
        record["tested_before"] = record.pop("tested")
    earlier = record.get("reweighted", [])
    change = {"added": list(said.studies) if said else [], "removed": sorted(out), **source}
    record |= {
        "reweighted": [*(earlier if isinstance(earlier, list) else [earlier]), change],
        "rows": sum(_rows(name, studies) for name in names),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return replace(
        posterior, weights=weights, by_study=by_study, by_term=by_term, studies=studies,
        terms=names, record=record,
    )  # fmt: skip


def study_of_term(term: str, studies: Iterable[str]) -> str:
    """Study of a term, whose name begins with it; empty if it is none of these."""
    of = (s for s in studies if term == s or term.startswith((f"{s}.", f"{s}+")))
    return max(of, key=len, default="")


def _rows(term: str, studies: Iterable[str]) -> int:
    """Rows of a term: each is called by its study."""
    study = re.escape(study_of_term(term, studies))
    return max(len(re.findall(rf"(?:^|\+){study}(?=[.+]|$)", term)), 1)
