"""Individual estimates of random effects: against covariates, as histograms, against each other."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from pkpd.errors import PkpdError
from pkpd.fitting.draws import Draws
from pkpd.fitting.plots.style import (
    BLUE,
    GREY,
    INK,
    RUST,
    WIDTH,
    calm,
    own_axes,
    points,
    smooth,
    styled,
)

_GROUPS = 5  # a covariate with at most so many values has a box for each


@styled
def plot_eta_covariate(
    draws: Draws, name: str, covariate: str, ax: Axes | None = None, **options: Any
) -> Axes:
    """Draw individual estimates of a random effect against a covariate.

    A covariate with few values has a box for each, named as in the source, another a local fit and
    its rank correlation.

    Parameters
    ----------
    draws
        The fit; estimates are posterior means, or modes of maximum likelihood.
    name
        Individual parameter.
    covariate
        Covariate of the data; its value at a subject's first record counts.
    ax
        Axes to draw on.
    **options
        Of the marks.
    """
    ax = own_axes(ax, (2.4, 2.2))
    eta = _eta(draws, name)
    values = _covariate(draws, covariate)
    levels = np.unique(values)
    ax.axhline(0.0, color=GREY, linewidth=0.8, zorder=1)
    if len(levels) <= _GROUPS:
        groups = [eta[values == level] for level in levels]
        word = partial(draws.likelihood.dataset.word, covariate)
        ax.boxplot(
            groups,
            positions=range(len(levels)),
            widths=0.5,
            showfliers=False,
            medianprops={"color": RUST, "linewidth": 1.4},
            boxprops={"color": BLUE, "linewidth": 0.9},
            whiskerprops={"color": BLUE, "linewidth": 0.9},
            capprops={"color": BLUE, "linewidth": 0.9},
        )
        shift = np.random.default_rng(1).uniform(-0.12, 0.12, len(eta))
        points(ax, np.searchsorted(levels, values) + shift, eta, **options)
        ax.set_xticks(
            range(len(levels)),
            [f"{word(v)}\nn={len(g)}" for v, g in zip(levels, groups, strict=True)],
        )
    else:
        points(ax, values, eta, **options)
        at, middle = smooth(values, eta)
        ax.plot(at, middle, color=RUST, linestyle=(0, (5, 1.5)), linewidth=1.3, zorder=5)
        if np.ptp(eta) > 0:
            found: Any = stats.spearmanr(values, eta)
            ax.set_title(
                f"rank correlation {found.statistic:.2f}, p = {found.pvalue:.2g}",
                weight="normal",
                fontsize=7,
                pad=4,
            )
        calm(ax)
    ax.set(xlabel=covariate, ylabel=f"η {name}")
    return ax


@styled
def plot_etas_covariates(draws: Draws) -> Figure | None:
    """Draw every random effect against every covariate; ``None`` where there are none."""
    names = draws.likelihood.model.varying
    covariates = [c for c in draws.likelihood.dataset.covariates if np.ptp(_covariate(draws, c))]
    if not names or not covariates:
        return None
    columns = min(len(names), 4)
    blocks = math.ceil(len(names) / columns)
    rows = len(covariates) * blocks
    width = WIDTH if columns > 1 else 3.4
    figure = Figure(figsize=(width, 1.9 * rows + 0.2), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for ax in grid.flat:
        ax.set_visible(False)
    for i, covariate in enumerate(covariates):
        for j, name in enumerate(names):
            ax = grid[i * blocks + j // columns, j % columns]
            ax.set_visible(True)
            plot_eta_covariate(draws, name, covariate, ax)
    return figure


@styled
def plot_eta_histogram(
    draws: Draws, name: str, ax: Axes | None = None, *, shrinkage: float | None = None
) -> Axes:
    """Draw a histogram of individual estimates under the density of the population.

    Parameters
    ----------
    draws, name, ax
        See `plot_eta_covariate`.
    shrinkage
        Written above it, as a fraction.
    """
    ax = own_axes(ax, (2.4, 2.0))
    eta = _eta(draws, name)
    omega = float(np.mean(draws.population[f"omega_{name}"]))
    reach = 1.1 * max(3 * omega, float(np.max(np.abs(eta), initial=0.0)))
    n_bins = int(np.clip(2 * np.sqrt(len(eta)), 8, 30))
    ax.hist(
        eta,
        np.linspace(-reach, reach, n_bins + 1).tolist(),
        density=True,
        color=BLUE,
        alpha=0.35,
        edgecolor="white",
        linewidth=0.5,
    )
    at = np.linspace(-reach, reach, 200)
    ax.plot(at, stats.norm.pdf(at, scale=omega), color=INK, linewidth=1.1)
    ax.plot(eta, np.zeros(len(eta)), "|", color=INK, markersize=4, alpha=0.6)
    ax.set(xlabel=f"η {name}", ylabel="", yticks=[])
    ax.spines["left"].set_visible(False)
    if shrinkage is not None:
        ax.set_title(f"shrinkage {100 * shrinkage:.0f} %", weight="normal", fontsize=7, pad=4)
    calm(ax)
    return ax


@styled
def plot_eta_pairs(draws: Draws, shrinkage: dict[str, float] | None = None) -> Figure | None:
    """Draw histograms on the diagonal and pairs of random effects below it.

    Returns ``None`` where nothing varies between patients.
    """
    names = draws.likelihood.model.varying
    if not names:
        return None
    n = len(names)
    side = min(WIDTH / n, 2.1)
    figure = Figure(figsize=(max(side * n, 2.4), max(0.85 * side * n, 2.0)), layout="constrained")
    grid = figure.subplots(n, n, squeeze=False)
    for i, name in enumerate(names):
        for j, other in enumerate(names):
            ax = grid[i, j]
            if j > i:
                ax.set_visible(False)
            elif j == i:
                plot_eta_histogram(draws, name, ax, shrinkage=(shrinkage or {}).get(name))
            else:
                points(ax, _eta(draws, other), _eta(draws, name))
                ax.axhline(0.0, color=GREY, linewidth=0.6)
                ax.axvline(0.0, color=GREY, linewidth=0.6)
                ax.set(xlabel=f"η {other}", ylabel=f"η {name}")
            calm(ax, 5 if n < 4 else 3)
            if i + 1 < n:
                ax.set_xlabel("")
            if j > 0:
                ax.set_ylabel("")
    return figure


def _eta(draws: Draws, name: str) -> np.ndarray:
    names = draws.likelihood.model.varying
    if name not in names:
        raise PkpdError(
            where=f"plot of {name!r}",
            what="does not vary between patients",
            allowed=", ".join(names),
        )
    return draws.means[1][:, names.index(name)]


def _covariate(draws: Draws, name: str) -> np.ndarray:
    known = draws.likelihood.dataset.covariates
    if name not in known:
        raise PkpdError(
            where=f"plot against {name!r}",
            what="is not a covariate of the data",
            allowed=", ".join(known),
            remedy=f'read it with covariates=["{name}"]',
        )
    return np.asarray(known[name][:, 0], dtype=float)
