"""Arguments and options of ``pkpd learn``; of others only typer is imported."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from pkpd.designs.options import Simulators, Threads


def learn_options(
    rows: Annotated[Path, typer.Argument(help="Outcomes of your own trial, a CSV file.")],
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="Where the posterior goes (.nc).")
    ] = Path("build/posterior.nc"),
    posterior: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What is known before; the shipped one.")
    ] = None,
    patients: Annotated[
        int, typer.Option(min=32, help="Simulated patients of an arm under each draw.")
    ] = 256,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the simulated patients.")] = 1,
    jobs: Threads = None,
    cluster: Simulators = None,
) -> Iterator[str]:
    """Learn from outcomes of your own trial, and tell what moved; compare takes the result."""
    from pkpd.errors import PkpdError, writing
    from pkpd.evidence.posterior.stored import load_posterior
    from pkpd.evidence.table.table import load_evidence
    from pkpd.evidence.updating.own_rows import learn_rows

    if out.suffix != ".nc":
        raise PkpdError(where="--out", what=f"the name {out.name!r}", allowed="a name in .nc")
    load_evidence(rows)  # before a folder is made
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(out.parent, os.W_OK) or out.is_dir():
            raise PermissionError(errno.EACCES, "no posterior can be written there", str(out))
    said = 0

    def tell(done: int, every: int) -> None:
        nonlocal said
        if 10 * done // every > said:
            said = 10 * done // every
            typer.echo(f"{done} of {every} draws", err=True)

    before = None if posterior is None else load_posterior(posterior)
    how: dict[str, Any] = {"patients": patients, "seed": seed, "jobs": jobs, "cluster": cluster}
    found = learn_rows(rows, before, on_progress=tell, **how)
    yield from found.lines()
    found.posterior.save(out)
    yield ""
    yield f"written: {out}; pkpd compare FILE --posterior {out} predicts with it"
