"""Options of ``pkpd forecast`` and ``pkpd visits``; of others only typer is imported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from pkpd.designs.options import Cluster, Jobs


def forecast_options(
    patient: Annotated[Path, typer.Argument(help="Counts so far (.csv), of one patient or many.")],
    schedule: Annotated[str, typer.Argument(help="Schedule or trial, as a .toml file or by name.")],
    cohort: Annotated[
        str | None, typer.Option(metavar="ID", help="Cohort of the file, where it has several.")
    ] = None,
    by_day: Annotated[
        int | None, typer.Option(min=1, help="Protocol day that the sentence names.")
    ] = None,
    until_day: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Last day of the forecast; by default the file's, or a week after the rule's "
            "where that is later.",
        ),
    ] = None,
    next_: Annotated[
        list[str] | None,
        typer.Option(
            "--next",
            metavar="DAY",
            help='Another continuation: one more cycle from that day, "29 at 0.75" with three '
            "quarters of the doses; repeatable.",
        ),
    ] = None,
    back: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COUNT",
            help='Count from which a line is back, "platelets 50", or "neutrophils baseline" for '
            "the patient's own; repeatable; the rule's by default.",
        ),
    ] = None,
    rule: Annotated[
        str | None, typer.Option(metavar="NAME", help="DLT rule instead of the file's.")
    ] = None,
    marrow: Annotated[
        str | None, typer.Option(metavar="NAME", help="Marrow: friberg or leukaemia.")
    ] = None,
    posterior: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Posterior of the marrow with leukaemia."),
    ] = None,
    engine: Annotated[
        str, typer.Option(metavar="NAME", help="auto, importance, smc or map.")
    ] = "auto",
    units: Annotated[
        list[str] | None,
        typer.Option(
            metavar="UNIT",
            help='Unit of all counts, such as cells/uL, or of one line, "ANC cells/uL"; '
            "repeatable; 10^9/L by default.",
        ),
    ] = None,
    bank: Annotated[int, typer.Option(min=100, help="Virtual patients.")] = 10_000,
    draws: Annotated[int, typer.Option(min=1, help="Draws of the uncertain parameters.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all random numbers.")] = 1,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where table and figures go.")] = Path(
        "build/forecast"
    ),
    figure_format: Annotated[
        list[str] | None,
        typer.Option("--figure-format", metavar="NAME", help="svg, pdf or png; repeatable."),
    ] = None,
    jobs: Jobs = None,
    cluster: Cluster = None,
) -> Iterator[str]:
    """Forecast a patient's counts from those seen so far: when they are back, and risks."""
    from pkpd.forecasting.command import forecast_lines

    asked: dict[str, Any] = {"cohort": cohort, "by_day": by_day, "until_day": until_day}
    asked |= {"rule": rule, "marrow": marrow, "posterior": posterior, "draws": draws}
    asked |= {"alternatives": next_ or (), "formats": figure_format or ["svg"]}
    asked |= {
        "back": back or (),
        "engine": engine,
        "units": units or (),
        "bank": bank,
        "seed": seed,
    }
    asked |= {"cluster": cluster, "jobs": jobs}
    yield from forecast_lines(patient, schedule, out, **asked)


def visits_options(
    schedule: Annotated[str, typer.Argument(help="Schedule or trial, as a .toml file or by name.")],
    budget: Annotated[int, typer.Option(min=1, help="Number of visits.")] = 4,
    days: Annotated[
        str, typer.Option(metavar="DAYS", help='Days that can be chosen: "8-29", "8-36 every 2".')
    ] = "2-28",
    always: Annotated[
        str | None, typer.Option(metavar="DAYS", help="Days on which blood is drawn anyway.")
    ] = None,
    loss: Annotated[
        str, typer.Option(metavar="NAME", help="What to lower: error, crps or entropy.")
    ] = "error",
    recovery: Annotated[
        str, typer.Option(metavar="NAME", help="both, neutrophils or platelets.")
    ] = "both",
    cohort: Annotated[
        str | None, typer.Option(metavar="ID", help="Cohort of the file, where it has several.")
    ] = None,
    until_day: Annotated[
        int | None, typer.Option(min=2, help="Last day that is looked at; the file's by default.")
    ] = None,
    rule: Annotated[
        str | None, typer.Option(metavar="NAME", help="Rule of recovery instead of the file's.")
    ] = None,
    marrow: Annotated[
        str | None, typer.Option(metavar="NAME", help="Marrow: friberg or leukaemia.")
    ] = None,
    posterior: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Posterior of the marrow with leukaemia."),
    ] = None,
    patients: Annotated[int, typer.Option(min=10, help="Virtual patients.")] = 400,
    bank: Annotated[int, typer.Option(min=100, help="Those of the forecaster.")] = 4000,
    draws: Annotated[int, typer.Option(min=1, help="Draws of the uncertain parameters.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all random numbers.")] = 1,
) -> Iterator[str]:
    """Choose the days on which blood tells most about the day of recovery."""
    from pkpd.forecasting.command import visits_lines

    how: dict[str, Any] = {"patients": patients, "bank": bank, "seed": seed, "recovery": recovery}
    how["loss"] = loss
    yield from visits_lines(
        schedule, budget, days, always=always, cohort=cohort, until_day=until_day, rule=rule,
        marrow=marrow, posterior=posterior, draws=draws, **how,
    )  # fmt: skip
