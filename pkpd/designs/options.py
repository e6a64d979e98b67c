"""Options of ``pkpd design``; of others only typer is imported."""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any

import typer

Jobs = Annotated[
    int | None, typer.Option(min=1, help="Processes of --cluster local; all cores without it.")
]
"""``--jobs`` of a command whose work a cluster can do."""
Cluster = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Dask scheduler over whose workers the work is spread (tcp://host:8786), or local.",
    ),
]
"""``--cluster`` of such a command."""
Threads = Annotated[int | None, typer.Option(min=1, help="Threads to use; without it all cores.")]
"""``--jobs`` of a command that simulates patients."""
Simulators = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Dask scheduler whose workers simulate (tcp://host:8786), or local: as many "
        "processes as --jobs says.",
    ),
]
"""``--cluster`` of such a command."""


PREDICT: ContextVar[Any] = ContextVar("predict", default=None)
"""What predicts the risks of a schedule file: it lies in a room above, which the command knows."""


def design_options(
    file: Annotated[Path, typer.Argument(help="Design file (.toml), as benchmarks/designs has.")],
    table: Annotated[
        bool, typer.Option("--table", help="Print the decision table, or pathways instead.")
    ] = False,
    ahead: Annotated[
        int, typer.Option(min=0, metavar="N", help="Print every outcome of the next N cohorts.")
    ] = 0,
    characteristics: Annotated[
        bool,
        typer.Option("--characteristics", help="Print operating characteristics by scenario."),
    ] = False,
    risks: Annotated[
        str | None,
        typer.Option(metavar="P,P,...", help="True risks of a DLT instead of the file's."),
    ] = None,
    trials: Annotated[int, typer.Option(min=2, help="Simulated trials, where not exact.")] = 2000,
    seed: Annotated[
        int,
        typer.Option(
            min=0, help="Seed of simulated trials, and of the risks that a schedule file predicts."
        ),
    ] = 1,
    jobs: Jobs = None,
    cluster: Cluster = None,
) -> Iterator[str]:
    """Replay a dose-finding trial: the next dose, and why; tables, operating characteristics."""
    from pkpd.designs.command import design_lines

    asked = {"table": table, "ahead": ahead, "operating": characteristics, "risks": risks}
    how: dict[str, Any] = {"trials": trials, "seed": seed, "cluster": cluster, "jobs": jobs}
    yield from design_lines(file, **asked, **how, predict=PREDICT.get())
