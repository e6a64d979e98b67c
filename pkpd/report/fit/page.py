"""The page of a fit: verdict, data, model, estimates, figures and run record in one HTML file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup, escape

from pkpd.files import write_text
from pkpd.fitting.checks.all_checks import LEVEL, Checks, check
from pkpd.fitting.checks.counts import THRESHOLDS
from pkpd.fitting.checks.vpc import VPC
from pkpd.fitting.draws import Fitted
from pkpd.fitting.plots import counts as plots_counts
from pkpd.fitting.plots import individuals as plots_individuals
from pkpd.fitting.plots import random_effects as plots_random_effects
from pkpd.fitting.plots import vpc as plots_vpc
from pkpd.fitting.plots.goodness import plot_goodness
from pkpd.fitting.plots.style import WIDTH
from pkpd.report.comparison.document import rendered, value_text
from pkpd.report.comparison.record import PACKAGES, versions
from pkpd.report.fit import page_words as words
from pkpd.report.svg import svg
from pkpd.report.wording import counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TEMPLATE = "fit.html.j2"
_PAGES_OF_INDIVIDUALS = 2


@dataclass(frozen=True)
class Drawing:
    """One figure of the page.

    Attributes
    ----------
    name
        Anchor.
    title, caption
        What it is, and how to read it.
    figure
        The matplotlib figure.
    """

    name: str
    title: str
    caption: str
    figure: Figure


def write_fit_page(fit: Checks | Fitted, path: str | Path, **options: Any) -> Path:
    """Write the page of a fit: one HTML file that needs nothing else.

    Parameters
    ----------
    fit
        Checks from `pkpd.fitting.checks.all_checks.check`, or a fit, which is checked first.
    path
        File to write.
    **options
        Of `pkpd.fitting.checks.all_checks.check`, where a fit is given.

    Returns
    -------
    pathlib.Path
        The file.
    """
    checks = fit if isinstance(fit, Checks) else check(fit, **options)
    path, text = Path(path), render_fit(checks)
    write_text(path, text)
    return path


def render_fit(checks: Checks) -> str:
    """Return the page of a fit as HTML."""
    model, data = checks.likelihood.model, checks.dataset
    bad = checks.sampler is not None and not checks.sampler.good
    return rendered(
        _TEMPLATE,
        title=f"Fit of {', '.join(data.lines)}: {counted(len(data.subjects), 'patient')}",
        verdict=checks.verdict,
        tone="bad" if bad else "care" if checks.problems else "good",
        problems=checks.problems,
        remarks=checks.remarks,
        sampled=checks.sampled,
        source=data.events.source,
        data=words.data_rows(data),
        data_words=data.summary().splitlines(),
        structure=words.structure_words(model),
        equations=[(name, _subscripts(text)) for name, text in words.equations(model)],
        priors=words.prior_rows(model) if checks.sampled else [],
        level=f"{100 * LEVEL:g}",
        estimates=words.estimate_rows(model, checks.table),
        residual_shrinkage=[
            (line, words.percent(value)) for line, value in checks.shrinkage.residual.items()
        ],
        npde=_npde_rows(checks),
        sampler=_sampler_rows(checks),
        left_out=_left_out_rows(checks),
        information=[(name, f"{value:.6g}") for name, value in checks.information.items()],
        information_note=getattr(checks.fit, "criteria_note", ""),
        figures=[
            {
                "name": d.name,
                "title": d.title,
                "caption": d.caption,
                "svg": Markup(svg(d.figure, f"figure{i}", d.title, f"{d.title}. {d.caption}")),
                "width": _width(d.figure),
            }
            for i, d in enumerate(drawings(checks))
        ],
        record=_record(checks.record),
    )


def drawings(checks: Checks) -> Iterator[Drawing]:
    """Draw the figures of the page, one after another."""
    lines = checks.dataset.lines
    corrected = "Each value is multiplied by the median prediction of its bin over its own."
    below = (
        " Below: share of values below the limit, observed (line) and of the model (dotted, band)."
        if checks.has_limits
        else ""
    )
    band = (
        "Lines: percentiles of the measurements. Bands: 90 % intervals of the same percentiles of "
        f"{checks.replicates} data sets simulated from the fit. Ticks above: bins."
    )
    yield Drawing("vpc", "Visual predictive check", band + below, plots_vpc.plot_vpc(checks.vpc))
    if checks.has_limits:
        yield Drawing(
            "vpc-log",
            "Visual predictive check, logarithmic",
            "The same with a logarithmic axis.",
            plots_vpc.plot_vpc(checks.vpc, log=True),
        )
    after = _after_dose(checks)
    if after is not None:
        yield Drawing(
            "vpc-dose",
            "Visual predictive check by time after dose",
            "The same with all doses laid over each other." + below,
            plots_vpc.plot_vpc(after),
        )
    pcvpc = checks.pcvpc
    yield Drawing(
        "pcvpc",
        "Prediction-corrected visual predictive check",
        " ".join([f"{corrected} {band}", *(n for n in pcvpc.notes if n not in checks.vpc.notes)]),
        plots_vpc.plot_vpc(pcvpc),
    )
    for line in lines:
        of = f", {line}" if len(lines) > 1 else ""
        yield Drawing(
            f"goodness-{line}",
            f"Goodness of fit{of}",
            "Measurements against predictions of the typical patient and the individual; "
            "conditional weighted residuals (CWRES) and normalised prediction distribution errors "
            "(NPDE) against time and prediction, and their quantiles with a 90 % band. Dashed "
            "rust: local fit. Dashed grey: ±1.96. Triangles: below the limit; pointing "
            "up: above it.",
            plot_goodness(checks.residuals, checks.errors, line=line),
        )
    for line in lines:
        of = f", {line}" if len(lines) > 1 else ""
        pages = plots_individuals.plot_individuals(checks.curves, line=line)
        seen = checks.dataset.observations
        n_pages = -(-len(np.unique(seen.subject[seen.line == lines.index(line)])) // 20)
        for i, figure in zip(range(_PAGES_OF_INDIVIDUALS), pages, strict=False):
            more = n_pages > _PAGES_OF_INDIVIDUALS and i + 1 == _PAGES_OF_INDIVIDUALS
            yield Drawing(
                f"individuals-{line}-{i + 1}",
                f"Individual fits{of}" + (f", page {i + 1}" if n_pages > 1 else ""),
                "Prediction with the patient's own random effects and of the typical patient with "
                "its doses and covariates."
                + (" Further patients: plot_individuals." if more else ""),
                figure,
            )
    pairs = plots_random_effects.plot_eta_pairs(checks.draws, checks.shrinkage.sd)
    if pairs is not None:
        yield Drawing(
            "etas",
            "Random effects",
            "Individual estimates under the population's density, and in pairs.",
            pairs,
        )
    covariates = plots_random_effects.plot_etas_covariates(checks.draws)
    if covariates is not None:
        yield Drawing(
            "covariates",
            "Random effects against covariates",
            "What the model's covariates leave unexplained: a trend suggests an effect.",
            covariates,
        )
    for found in checks.counts:
        yield Drawing(
            f"counts-{found.line}",
            f"Nadir and recovery, {found.line}",
            "Distribution over patients: measured (line) and 90 % interval of the model's at the "
            "same visits.",
            plots_counts.plot_count_check(found),
        )
    if checks.leave_one_out_known and checks.leave_one_out is not None:
        axes = plots_counts.plot_pareto(checks.leave_one_out)
        yield Drawing(
            "pareto",
            "Leave one patient out",
            "Pareto k of each patient: above 0.7 the fit leans on that patient so heavily that its "
            "own share of the elpd is not reliable.",
            axes.figure,  # type: ignore[arg-type]
        )


def _subscripts(text: str) -> Markup:
    """Greek letters with what follows an underscore below the line."""
    found = re.sub(
        r"([\u0391-\u03c9])_(\w+(?:,\w+)?)", r"\1<sub>\2</sub>", str(escape(text)), flags=re.ASCII
    )
    return Markup(found)


def _after_dose(checks: Checks) -> VPC | None:
    """Check of concentrations by time after dose, where most come after a later dose."""
    found = checks.vpc_by(x="time_after_dose")
    seen = checks.dataset.observations
    panels = tuple(
        panel
        for panel in found.panels
        if panel.line not in THRESHOLDS
        and np.ptp(panel.x)
        < 0.6 * np.ptp(seen.time[seen.line == checks.dataset.lines.index(panel.line)])
    )
    return replace(found, panels=panels) if panels else None


def _width(figure: Figure) -> int:
    """Width on the page in percent, so that letters of all figures have one size."""
    return min(100, round(100 * float(figure.get_size_inches()[0]) / WIDTH))


def _npde_rows(checks: Checks) -> list[dict[str, str]]:
    rows = []
    for line in checks.dataset.lines:
        found = checks.errors.tests(line)
        rows.append(
            {"line": line, "n": f"{found['n']:.0f}"}
            | {name: _told(found[name], ".2f") for name in ("mean", "variance")}
            | {name: _told(found[name], ".2g") for name in ("p_mean", "p_variance", "p_normal")}
        )
    return rows


def _told(value: float, form: str) -> str:
    return "" if np.isnan(value) else format(value, form)


def _sampler_rows(checks: Checks) -> list[dict[str, str]]:
    if checks.sampler is None:
        return []
    return [
        {
            "name": str(name),
            "r_hat": f"{row['r_hat']:.3f}",
            "bulk": f"{row['ess_bulk']:.0f}",
            "tail": f"{row['ess_tail']:.0f}",
            "mcse": words.number(row["mcse"], 2),
        }
        for name, row in checks.sampler.table.to_dict(orient="index").items()
    ]


def _left_out_rows(checks: Checks) -> tuple[str, ...]:
    if not checks.leave_one_out_known or checks.leave_one_out is None:
        return ()
    return checks.leave_one_out.sentences


def _record(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    known = dict(record)
    known.setdefault("versions", versions(PACKAGES))
    return [(str(key), value_text(value)) for key, value in known.items()]
