"""Arguments and options of ``pkpd search``; of others only typer is imported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from pkpd.designs.options import Simulators, Threads


def search_options(
    menu: Annotated[str, typer.Argument(help="Menu or schedule file (.toml), or a trial's name.")],
    limit: Annotated[
        float | None,
        typer.Option(metavar="P", help="Most risk of a DLT, instead of the menu's limits."),
    ] = None,
    probability: Annotated[
        float | None,
        typer.Option(
            metavar="P",
            help="Most probability that a limit is not kept, instead of its own (0.25).",
        ),
    ] = None,
    objective: Annotated[
        list[str] | None,
        typer.Option(
            "--objective",
            metavar="NAME",
            help="What makes a schedule better: dlt, remission, death, days_low, "
            "nadir_neutrophils, nadir_platelets, grade_4_neutrophils, grade_4_platelets, "
            "late_start, dose; repeatable, instead of the menu's.",
        ),
    ] = None,
    keep: Annotated[
        int | None, typer.Option(min=1, help="Most schedules of the short list (5).")
    ] = None,
    patients: Annotated[int | None, typer.Option(min=2, help="Simulated patients (200).")] = None,
    draws: Annotated[
        int | None, typer.Option(min=2, help="Draws of the uncertain parameters (50).")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of all random numbers (1).")] = None,
    marrow: Annotated[
        str | None, typer.Option(metavar="NAME", help="Marrow that answers first.")
    ] = None,
    posterior: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Posterior of the marrow with leukaemia.")
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Leave out the prior and the other marrow.")
    ] = False,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the results go.")] = Path(
        "build/search"
    ),
    jobs: Threads = None,
    cluster: Simulators = None,
) -> Iterator[str]:
    """Find the schedules of a menu that keep a risk limit, and a short list to compare further."""
    from pkpd.search.command import search_lines

    yield from search_lines(
        menu, out, limit=limit, probability=probability, objectives=objective, keep=keep,
        patients=patients, draws=draws, seed=seed, marrow=marrow, posterior=posterior,
        repeat=not once, threads=jobs, cluster=cluster,
    )  # fmt: skip
