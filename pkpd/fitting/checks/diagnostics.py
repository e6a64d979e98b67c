"""What the sampler says about its own draws, in words, with what to do about it.

Limits: R-hat 1.01 and effective sample size 400 (Vehtari and others 2021, Bayesian Anal
16:667-718), energy Bayesian fraction of missing information 0.3 (Betancourt 2016,
arXiv:1604.00695).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pkpd.errors import PkpdError
from pkpd.fitting.checks.divergences import Place, places_of_divergence
from pkpd.fitting.draws import Draws
from pkpd.fitting.judge.findings import Finding, in_order
from pkpd.solve.population.status import PENALTY

LARGEST_RHAT = 1.01
LARGEST_RHAT_OF_EFFECTS = 1.05
"""Of random effects: the largest of hundreds, with few draws, exceeds 1.01 by chance."""
SMALLEST_ESS = 400
SMALLEST_BFMI = 0.3


@dataclass(frozen=True, eq=False)
class SamplerDiagnostics:
    """Verdict on a posterior sample.

    Attributes
    ----------
    findings
        What is wrong, the gravest first, each with what to do; empty if all is well.
    remarks
        Sentences on what was found in order.
    table
        A row for each population parameter: ``r_hat``, ``ess_bulk``, ``ess_tail``, ``mcse``.
    """

    findings: tuple[Finding, ...]
    remarks: tuple[str, ...]
    table: pd.DataFrame

    @property
    def problems(self) -> tuple[str, ...]:
        """The findings as sentences."""
        return tuple(map(str, self.findings))

    def __repr__(self) -> str:
        """Tell how much was found wrong."""
        wrong, right = len(self.problems), len(self.remarks)
        return f"SamplerDiagnostics({wrong} problem{'s' * (wrong != 1)}, {right} in order)"

    @property
    def good(self) -> bool:
        """Whether nothing was found wrong; notes, on what costs time alone, do not count."""
        return all(finding.severity == "note" for finding in self.findings)

    @property
    def sentences(self) -> tuple[str, ...]:
        """Problems first, then what is in order."""
        return (*self.problems, *self.remarks)


def sampler_diagnostics(
    idata: Any, names: Sequence[str] | None = None, draws: Draws | None = None
) -> SamplerDiagnostics:
    """Judge a posterior sample.

    Parameters
    ----------
    idata
        ``arviz.InferenceData`` with ``posterior`` and, as far as the sampler gives them,
        ``sample_stats``.
    names
        Population parameters for the table; by default every scalar of the posterior. Those of
        the random effects are judged too, as a whole.
    draws
        The same sample, to count subjects that could not be solved.

    Raises
    ------
    PkpdError
        If there is no posterior.
    """
    import arviz as az

    if idata is None or not hasattr(idata, "posterior"):
        raise PkpdError(
            where="sampler_diagnostics",
            what="there is no posterior",
            remedy="give the InferenceData of a fit by sampling",
        )
    posterior = idata.posterior
    if names is None:
        names = [str(n) for n, v in posterior.data_vars.items() if v.dims == ("chain", "draw")]
    names = [name for name in names if name in posterior]
    n_chains, n_draws = posterior.sizes["chain"], posterior.sizes["draw"]
    effects = [name for name in ("eta", "kappa") if name in posterior]
    kept = posterior[[*names, *effects]]
    parts = {"ess_bulk": az.ess(kept, method="bulk"), "ess_tail": az.ess(kept, method="tail")}
    if names:
        parts["mcse"] = az.mcse(kept[list(names)])
    if n_chains > 1:
        parts["r_hat"] = az.rhat(kept)
    table = pd.DataFrame(
        {
            key: [float(parts[key][name]) if key in parts else np.nan for name in names]
            for key in ("r_hat", "ess_bulk", "ess_tail", "mcse")
        },
        index=pd.Index(names, name="parameter"),
    )
    problems, remarks = list[Finding](), [f"{n_chains} chains of {n_draws} draws."]
    _mixing(problems, remarks, table, parts, effects, n_chains)
    _trajectories(problems, remarks, idata, names)
    _failures(problems, remarks, draws)
    return SamplerDiagnostics(in_order(problems), tuple(remarks), table)


def _mixing(
    problems: list[Finding],
    remarks: list[str],
    table: pd.DataFrame,
    parts: dict[str, Any],
    effects: Sequence[str],
    n_chains: int,
) -> None:
    if n_chains < 2:
        said = "There is one chain, so that its convergence cannot be judged: run four chains."
        problems.append(Finding("one chain", "doubtful", said))
    else:
        worst = [(float(parts["r_hat"][name]), name, LARGEST_RHAT) for name in table.index]
        worst += [(*_largest(parts["r_hat"][e]), LARGEST_RHAT_OF_EFFECTS) for e in effects]
        above = [(value, who) for value, who, limit in worst if not value <= limit]
        if above:
            value, who = max(above, key=lambda one: np.nan_to_num(one[0], nan=np.inf))
            also = f" ({len(above)} such in all)" if len(above) > 1 else ""
            said = (
                f"The chains disagree: R-hat is {value:.3f} for {who}{also}; do not use these "
                "draws: tune and sample longer, and look for a parameter the data do not inform."
            )
            problems.append(Finding("chains disagree", "wrong", said))
        else:
            value, who, _ = max(worst)
            remarks.append(f"The chains agree: largest R-hat {value:.3f} ({who}).")
    for key, what in (("ess_bulk", "middle"), ("ess_tail", "tail")):
        worst = [(float(parts[key][name]), name) for name in table.index]
        worst += [(float(parts[key][e].min()), f"a random effect ({e})") for e in effects]
        value, who = min(worst, key=lambda one: np.nan_to_num(one[0], nan=0.0))
        if not value >= SMALLEST_ESS:
            worth = np.nan_to_num(value, nan=0.0)  # not known of a handful of draws
            factor = max(2, int(np.ceil(SMALLEST_ESS / max(worth, 1.0))))
            said = (
                f"The {what} of the posterior of {who} is worth {worth:.0f} independent draws, "
                f"fewer than {SMALLEST_ESS}: take about {factor} times as many draws before "
                "quoting its interval."
            )
            problems.append(Finding("few draws", "doubtful", said))
        else:
            remarks.append(
                f"The {what} of every posterior is worth {value:.0f} independent draws or more."
            )


def _largest(r_hat: Any) -> tuple[float, str]:
    """Largest R-hat of an array of random effects, and which of them it is."""
    flat = r_hat.stack(place=r_hat.dims)
    found = int(np.nan_to_num(flat.values, nan=np.inf).argmax())
    labels = ", ".join(str(part) for part in flat["place"].values[found])
    return float(flat.values[found]), f"the random effect {r_hat.name}[{labels}]"


def _trajectories(
    problems: list[Finding], remarks: list[str], idata: Any, names: Sequence[str]
) -> None:
    stats = getattr(idata, "sample_stats", None)
    if stats is None:
        remarks.append("The sampler gave no statistics of its trajectories.")
        return
    if "diverging" in stats:
        diverged = int(stats["diverging"].sum())
        total = int(stats["diverging"].size)
        if diverged:
            places = places_of_divergence(idata, names)
            where = f", where {' and '.join(map(str, places))}" if places else ""
            said = (
                f"{diverged} of {total} trajectories diverged{where}: parts of the posterior may "
                "not have been visited; raise target_accept (0.95), change the centring of the "
                f"random effect {_which(places)}, or tighten its prior."
            )
            whom = tuple(place.subject for place in places if place.subject)
            named = tuple(dict.fromkeys(place.parameter for place in places))
            problems.append(Finding("divergent", "doubtful", said, "", named, whom))
        else:
            remarks.append("No trajectory diverged.")
    deepest = _at_full_depth(stats)
    if deepest:
        said = (
            f"{deepest} trajectories reached the largest tree depth: this costs time rather than "
            "validity; standardise what is strongly correlated, or sample with low_rank=True."
        )
        problems.append(Finding("tree depth", "note", said))
    if "energy" in stats:
        energy = np.atleast_2d(stats["energy"].values)
        fraction = np.mean(np.diff(energy, axis=1) ** 2, axis=1) / np.var(energy, axis=1)
        if fraction.min() < SMALLEST_BFMI:
            said = (
                f"The energy moves slowly (BFMI {fraction.min():.2f} in chain "
                f"{int(np.argmin(fraction)) + 1}, below {SMALLEST_BFMI}): a heavy tail, often of a "
                "standard deviation near zero; give it a tighter prior or change its centring."
            )
            problems.append(Finding("energy", "doubtful", said))
        else:
            remarks.append(f"The energy moves freely: smallest BFMI {fraction.min():.2f}.")


def _which(places: Sequence[Place]) -> str:
    """Say whose centring may be at fault."""
    spread = [p.parameter for p in places if p.parameter.startswith("omega_")]
    effects = [p.parameter for p in places if p.subject]
    name = (spread or effects or [""])[0].removeprefix("omega_")
    return f"of {name}" if name else "with the smallest standard deviation"


def _at_full_depth(stats: Any) -> int:
    for name in ("maxdepth_reached", "reached_max_treedepth"):
        if name in stats:
            return int(stats[name].sum())
    return 0


def _failures(problems: list[Finding], remarks: list[str], draws: Draws | None) -> None:
    if draws is None:
        return
    some = draws.thinned(50)
    bad = some.log_likelihood() <= PENALTY
    if bad.any():
        subjects = some.likelihood.dataset.subjects[np.any(bad, axis=0)]
        said = (
            f"The model could not be solved for subjects {', '.join(map(str, subjects))} in "
            f"{int(np.sum(np.any(bad, axis=1)))} of {len(some)} draws: their data did not count "
            "there; look at their doses, or tighten the priors."
        )
        problems.append(Finding("not solved", "doubtful", said))
    else:
        remarks.append(f"The model was solved for every subject in all of {len(some)} draws.")
