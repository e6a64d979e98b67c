"""Figures of nadir and recovery checks, and of Pareto shapes."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pkpd.arguments import check_arguments, one_of
from pkpd.fitting.checks.counts import CountCheck
from pkpd.fitting.checks.leave_one_out import LARGE_K, LeaveOneOut
from pkpd.fitting.checks.vpc import percentile
from pkpd.fitting.plots.style import BLUE, GREY, INK, RUST, WIDTH, calm, own_axes, styled, unit

_LABELS = {
    "nadir": "nadir",
    "nadir_time": "time of the nadir (days)",
    "recovery_time": "recovery to {:g} (days)",
}


@styled
def plot_count_statistic(check: CountCheck, name: str, ax: Axes | None = None) -> Axes:
    """Draw the distribution over subjects of a statistic, observed and of the model.

    Parameters
    ----------
    check
        From `pkpd.fitting.checks.counts.count_checks`.
    name
        ``"nadir"``, ``"nadir_time"`` or ``"recovery_time"``.
    ax
        Axes to draw on.
    """
    check_arguments("plot_count_statistic", name=(name, one_of(*_LABELS)))
    ax = own_axes(ax, (2.4, 2.2))
    divide = 1.0 if name == "nadir" else 24.0
    observed = np.sort(check.observed[name]) / divide
    replicated = np.sort(check.replicated[name], axis=1) / divide
    n = len(observed)
    level = (np.arange(1, n + 1) - 0.5) / n
    band = [percentile(replicated.T, q) for q in (0.05, 0.95)]
    everything = np.concatenate([observed, *band])
    finite = everything[np.isfinite(everything)]
    top = 1.05 * float(finite.max()) if finite.size else 1.0
    low, high = (np.where(np.isfinite(b), b, top) for b in band)
    ax.fill_betweenx(level, low, high, color=BLUE, alpha=0.22, linewidth=0)
    seen = np.isfinite(observed)
    ax.plot(observed[seen], level[seen], color=INK, marker=".", markersize=4, linewidth=1.1)
    label = (
        unit(check.line, check.units) if name == "nadir" else _LABELS[name].format(check.threshold)
    )
    ax.set(xlabel=f"nadir of {label}" if name == "nadir" else label, ylim=(0, 1))
    ax.set_ylabel("share of patients")
    calm(ax)
    return ax


@styled
def plot_count_check(check: CountCheck) -> Figure:
    """Draw nadir, its time, and recovery beside each other."""
    figure = Figure(figsize=(WIDTH, 2.3), layout="constrained")
    for ax, name in zip(figure.subplots(1, 3, sharey=True), _LABELS, strict=True):
        plot_count_statistic(check, name, ax)
        if name != "nadir":
            ax.set_ylabel("")
    return figure


@styled
def plot_pareto(found: LeaveOneOut, ax: Axes | None = None) -> Axes:
    """Draw the Pareto shape of each unit left out; those that are not reliable are named."""
    ax = own_axes(ax, (4.6, 2.2))
    place = np.arange(len(found.k))
    large = found.k > LARGE_K
    ax.axhline(LARGE_K, color=RUST, linewidth=0.9, linestyle=(0, (4, 2)))
    ax.axhline(0.0, color=GREY, linewidth=0.6)
    ax.vlines(place, 0, found.k, color=np.where(large, RUST, BLUE).tolist(), linewidth=1.0)
    ax.scatter(place, found.k, s=12, color=np.where(large, RUST, BLUE).tolist(), zorder=3)
    for i in np.flatnonzero(large)[:20]:
        ax.annotate(
            found.labels[i], (i, found.k[i]), (0, 3), textcoords="offset points", ha="center",
            fontsize=6.5,
        )  # fmt: skip
    if len(found.labels) <= 25 and found.unit == "subject":
        ax.set_xticks(place, found.labels)
    ax.set(xlabel=f"{found.unit} left out", ylabel="Pareto k")
    return ax
