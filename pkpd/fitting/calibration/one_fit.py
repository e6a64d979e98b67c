"""One fit of a calibration: draw a truth, simulate a data set, fit it, rank the truth.

A fit does what `pkpd.fit` does: chains start from the same point, in the same coordinates. All data
sets of a calibration have one design, so that measurements and centring are inputs of the compiled
density, which is not compiled again from fit to fit. Where lags end at measurements, coordinates go
with the data: such a fit is compiled anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import jax
import numpy as np
import pymc as pm

from pkpd.data.dataset import ABOVE, BELOW, Dataset
from pkpd.errors import PkpdError
from pkpd.fitting.bayes.density import build_model, centring_data
from pkpd.fitting.bayes.posterior import (
    Beginning,
    Chains,
    after_pilot,
    begin,
    settings_before_walls,
)
from pkpd.fitting.bayes.program import Program, compile_density
from pkpd.fitting.bayes.sample import SamplerSettings
from pkpd.fitting.checks.priors import prior_draws
from pkpd.fitting.checks.replicates import limits
from pkpd.fitting.draws import Draws
from pkpd.fitting.fit import fit
from pkpd.fitting.information.expected import blank
from pkpd.fitting.maximum.description import description
from pkpd.fitting.maximum.predicted import densities
from pkpd.fitting.maximum.scales import FreeParameters
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.model.population_likelihood import Observed
from pkpd.fitting.model.population_parameters import held, start_values
from pkpd.fitting.model.specification import PopulationModel
from pkpd.fitting.sampled import posterior_draws

Quantity = Callable[[Mapping[str, np.ndarray]], np.ndarray]
"""From population parameters by name, ``[D]`` each, to one number for each draw, ``[D]``."""

_CHAINS = 2
_LONGEST = 4  # a fit with too few independent draws is run up to this many times longer
_CHUNK = 100  # truths are drawn in lots of this many, so that more fits begin with the same ones
LOG_LIKELIHOOD = "log_likelihood"


@dataclass(frozen=True, eq=False)
class Trial:
    """What every fit of a calibration has in common.

    Attributes
    ----------
    model
        The model that is fitted.
    simulated
        The model that truths and data are drawn from: the same one, unless a wrong fit is to be
        seen.
    design
        Subjects, doses, times, covariates, occasions; its measurements are not used.
    lloq
        Limits of quantification where the design's censored values do not tell.
    method
        ``"nuts"``, or another method of `pkpd.fitting.fit.fit`.
    draws, tune
        Draws of a chain after and during adaptation.
    ranked
        Independent draws ``L`` each truth is ranked among.
    centring
        As in `pkpd.fitting.fit.fit`.
    target_accept
        Acceptance rate; ``None`` for that of `pkpd.fit`.
    functions
        Further quantities by name.
    seed
        Seed of the calibration.
    """

    model: PopulationModel
    simulated: PopulationModel
    design: Dataset
    lloq: float | Mapping[str, float] | None
    method: Literal["nuts", "map", "advi"]
    draws: int
    tune: int
    ranked: int
    centring: Any
    target_accept: float | None
    functions: Mapping[str, Quantity]
    seed: int

    def description(self) -> dict[str, Any]:
        """Tell what must be the same for finished fits to be used again."""

        def told(model: PopulationModel) -> dict[str, Any]:
            words = description(FreeParameters(bind(model, blank(self.design))), priors=True)
            return {name: words[name] for name in ("start", "model", "by_subject")}

        model = told(self.model)
        simulated = dict(model) if self.simulated is self.model else told(self.simulated)
        simulated.pop("by_subject")
        limited = [np.unique(x, return_counts=True) for x in limits(self.design, self.lloq)]
        return {
            "design": model.pop("by_subject"),
            "model": model,
            "simulated": simulated,
            "limits": [[one.tolist() for one in each] for each in limited],
            "method": self.method,
            "draws": self.draws,
            "tune": self.tune,
            "ranked": self.ranked,
            "centring": self.centring
            if isinstance(self.centring, str)
            else {name: np.asarray(one).tolist() for name, one in self.centring.items()},
            "target_accept": self.target_accept,
            "functions": [f"{name} = {self._at_start(name)}" for name in sorted(self.functions)],
            "seed": self.seed,
        }

    def densities(self) -> list[list[str]]:
        """Densities of the design's observations under both models, which tell functions apart."""
        both = (bind(model, blank(self.design)) for model in (self.model, self.simulated))
        return [densities(one) for one in both]

    def _at_start(self, name: str) -> str:
        """Value of a further quantity at the starting values, which tells functions apart."""
        start = {key: np.array([value]) for key, value in start_values(self.simulated).items()}
        try:
            value = np.asarray(self.functions[name](start), dtype=float)
        except Exception as error:
            where, what = f"calibrate, functions {name!r}", f"{type(error).__name__}: {error}"
            remedy = f"give a function of {', '.join(start)}"
            raise PkpdError(where=where, what=what, remedy=remedy) from error
        return " ".join(f"{one:.6g}" for one in value.ravel())


class CalibrationFit:
    """Compiled parts of a `Trial`, made once in each process."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.likelihood = bind(trial.model, trial.design)
        self.truth = bind(trial.simulated, trial.design)
        self.lower, self.upper = limits(trial.design, trial.lloq)
        self.limited = bool(np.any(np.isfinite(self.lower)) or np.any(np.isfinite(self.upper)))
        self.names = [name for name in start_values(trial.model) if name not in held(trial.model)]
        self._truths: dict[int, Draws] = {}

    def population(self, index: int) -> dict[str, float]:
        """Return the population parameters of a truth."""
        lot, place = divmod(index, _CHUNK)
        if lot not in self._truths:
            seed = np.random.SeedSequence([self.trial.seed, lot]).generate_state(1)[0]
            self._truths[lot] = prior_draws(self.truth, _CHUNK, seed=int(seed))
        drawn = self._truths[lot].population
        return {name: float(value[place]) for name, value in drawn.items()}

    @cached_property
    def _predict(self) -> Any:
        return jax.jit(self.truth.predictions)

    def simulate(
        self, population: Mapping[str, float], rng: np.random.Generator
    ) -> tuple[np.ndarray, Observed]:
        """Random effects ``[B, R]`` and measurements of a truth, limits applied."""
        effects = self.truth.random_effects
        lower = np.asarray(effects.cholesky(population, np))
        random = rng.standard_normal((self.truth.n_subjects, effects.size)) @ lower.T
        fixed = np.asarray(self.truth.fixed(population))
        predicted = np.asarray(self._predict(fixed, random))
        value = self.truth.simulate(fixed, predicted, rng, random)
        below, above = value < self.lower, value > self.upper
        censored = np.select([below, above], [BELOW, ABOVE], 0)
        value = np.select([below, above], [self.lower, self.upper], value)
        return random, Observed(value, censored, np.full(len(value), -np.inf))

    @cached_property
    def _compiled(self) -> tuple[pm.Model, Program]:
        """Model with exchangeable data, and its program."""
        measured = ("value", "censored") if self.limited else ("value",)
        made = build_model(self.likelihood, None, measured)
        return made, compile_density(made, self._kept(made), other_data=True)

    def _kept(self, made: pm.Model) -> list[str]:
        """Names of the variables that draws are kept of."""
        kept = [*self.names, "eta", "kappa"]
        return [v.name for v in (*made.free_RVs, *made.deterministics) if v.name in kept]

    @cached_property
    def _log_likelihood(self) -> Any:
        def of(fixed: Any, random: Any, value: Any, censored: Any) -> Any:
            codes = censored if self.limited else np.zeros(len(self.lower), dtype=np.int64)
            unbounded = np.full(len(self.lower), -np.inf)
            return self.likelihood.total(fixed, random, Observed(value, codes, unbounded))

        return jax.jit(of)

    def run(self, index: int) -> dict[str, Any]:
        """Do one fit.

        Returns
        -------
        dict
            ``index``, ``seconds``, ``failed`` (a sentence or ``None``), and if it did not fail
            ``truth`` and ``ranks`` by quantity, ``divergences``, ``draws``, ``smallest_ess``,
            ``largest_rhat``.
        """
        began = time.monotonic()
        rng = np.random.default_rng([self.trial.seed, 1, index])
        out: dict[str, Any] = {"index": index, "failed": None}
        try:
            population = self.population(index)
            random, observed = self.simulate(population, rng)
            if not np.all(np.isfinite(observed.value)):
                out["failed"] = "the simulated data are not finite"
            elif self.trial.method == "nuts":
                out |= self._nuts(population, random, observed, index)
            else:
                out |= self._fitted(population, random, observed, index)
        except Exception as error:  # one fit that fails must not end a thousand
            out["failed"] = f"{type(error).__name__}: {error}"
        return out | {"seconds": round(time.monotonic() - began, 2)}

    def _nuts(
        self, population: Mapping[str, float], random: np.ndarray, observed: Observed, index: int
    ) -> dict[str, Any]:
        import arviz as az

        settings = self.settings(index)
        draws_of = self.chains(observed)
        # a fit that failed to give enough independent draws is run again, longer: leaving it out
        # would leave out just those posteriors that are hard to sample
        longer = 1
        while True:
            more = replace(settings, draws=longer * settings.draws, tune=longer * settings.tune)
            trace = draws_of(more)
            posterior = trace.posterior
            ess = min(float(az.ess(posterior[name].values)) for name in self.names)
            rhat = max(float(az.rhat(posterior[name].values)) for name in self.names)
            if (ess >= self.trial.ranked and rhat < 1.05) or longer >= _LONGEST:
                break
            longer *= 2
        truth = self._quantities(
            Draws(self.truth, {k: np.array([v]) for k, v in population.items()}, random[None]),
            observed,
        )
        drawn = posterior_draws(self.likelihood, trace)
        return {
            "divergences": int(trace.sample_stats["diverging"].sum()),
            "draws": len(drawn),
            "smallest_ess": round(ess, 1),
            "largest_rhat": round(rhat, 4),
        } | self._ranked(truth, drawn, observed)

    def settings(self, index: int) -> SamplerSettings:
        """How the chains of a fit are sampled."""
        seed = int(np.random.SeedSequence([self.trial.seed, 2, index]).generate_state(1)[0])
        return SamplerSettings(
            draws=self.trial.draws,
            tune=self.trial.tune,
            chains=_CHAINS,
            cores=1,
            seed=seed,
            progress=False,
            **self._given,
        )

    @property
    def _given(self) -> dict[str, Any]:
        """Settings that stay as they are where lags have walls; numbers of draws do, too."""
        rate = self.trial.target_accept
        return {} if rate is None else {"target_accept": rate}

    def chains(self, observed: Observed) -> Callable[[SamplerSettings], Any]:
        """Start chains on simulated measurements as `pkpd.fit` does.

        Nothing is compiled again, unless lags end at measurements.
        """
        likelihood = self.likelihood.with_measurements(self.dataset(observed))
        begun = begin(likelihood, "nuts", self.trial.centring, "auto", walls=True)
        if begun.centring.walls is not None:
            return self._chains_before_walls(begun)
        made, program = self._compiled
        data = {"observed_value": observed.value, **centring_data(begun.centring)}
        if self.limited:
            data["observed_censored"] = observed.censored
        chains, program = begun.chains(made), program.with_data(data)
        return lambda settings: chains.draws(settings, program=program)

    def _chains_before_walls(self, begun: Beginning) -> Callable[[SamplerSettings], Any]:
        """Chains in coordinates of these data, compiled at the first call."""
        after: list[tuple[Chains, Program]] = []

        def draws(settings: SamplerSettings) -> Any:
            settings = settings_before_walls(settings, {"draws", *self._given})
            if not after:
                moved = after_pilot(begun, settings)
                made = build_model(moved.likelihood, moved.centring)
                after.append((moved.chains(made), compile_density(made, self._kept(made))))
            chains, program = after[0]
            return chains.draws(settings, program=program)

        return draws

    def dataset(self, observed: Observed) -> Dataset:
        """Return the design with simulated measurements."""
        dataset = self.likelihood.dataset
        seen = replace(dataset.observations, **observed._asdict())
        return replace(dataset, observations=seen)

    def _fitted(
        self, population: Mapping[str, float], random: np.ndarray, observed: Observed, index: int
    ) -> dict[str, Any]:
        made = fit(
            self.trial.model,
            self.dataset(observed),
            method=self.trial.method,
            draws=self.trial.draws,
            chains=1,
            centring=self.trial.centring,
            seed=index + 1,
            progress=False,
        )
        truth = self._quantities(
            Draws(self.truth, {k: np.array([v]) for k, v in population.items()}, random[None]),
            observed,
        )
        return {
            "divergences": 0,
            "draws": len(made.draws),
            "smallest_ess": float(len(made.draws)),
            "largest_rhat": 1.0,
        } | self._ranked(truth, made.draws, observed)

    def _quantities(self, draws: Draws, observed: Observed) -> dict[str, np.ndarray]:
        """All that is ranked, ``[D]`` each."""
        out = {name: np.asarray(draws.population[name], dtype=float) for name in self.names}
        for name, function in self.trial.functions.items():
            out[name] = np.asarray(function(draws.population), dtype=float)
        # depends on parameters, random effects and data at once: sees what no parameter shows
        # (Modrák et al. 2023, Bayesian Anal)
        out[LOG_LIKELIHOOD] = np.array(
            [
                float(self._log_likelihood(fixed, random, observed.value, observed.censored))
                for fixed, random in zip(self._fixed(draws), draws.random, strict=True)
            ]
        )
        return out

    def _fixed(self, draws: Draws) -> np.ndarray:
        """Order fixed effects as the fitted model has them, ``[D, F]``."""
        columns = [np.asarray(draws.population[name]) for name in self.likelihood.fixed_names]
        return np.stack(columns, axis=1)

    def _ranked(
        self, truth: Mapping[str, np.ndarray], draws: Draws, observed: Observed
    ) -> dict[str, Any]:
        posterior = self._quantities(draws.thinned(self.trial.ranked), observed)
        return {
            "truth": {name: float(value[0]) for name, value in truth.items()},
            "ranks": {
                name: int(np.sum(value < truth[name][0])) for name, value in posterior.items()
            },
        }


class CalibrationFits:
    """Fits by number; what they have in common is compiled with the first, and does not travel."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self._made: CalibrationFit | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Return what travels."""
        return {"trial": self.trial, "_made": None}

    def __call__(self, index: int) -> dict[str, Any]:
        """Do one fit."""
        if self._made is None:
            self._made = CalibrationFit(self.trial)
        return self._made.run(index)
