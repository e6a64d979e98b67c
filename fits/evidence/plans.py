"""What a reduced and a full run learn, and from what; tables that scripts write."""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pkpd.evidence import EvidenceLikelihood, LearningPlan, load_learning_table, marrow_prior
from pkpd.evidence.likelihood.prior import Prior
from pkpd.evidence.likelihood.use import how_used
from pkpd.evidence.sampling.chains import ChainSettings
from pkpd.evidence.sampling.emulator import Training
from pkpd.evidence.table.learning import joined, published_rows, refined
from pkpd.evidence.table.table import EvidenceTable, load_evidence
from pkpd.evidence.updating.nested import counted_beside, read_once
from pkpd.leukaemia.parameters import leukaemia_cards
from pkpd.marrow.variants import VARIANTS, Variant

SHIPPED = "ten_stages"
"""Variant of the marrow with which the posterior was learned that predictions use by default."""

ROOT = Path(__file__).resolve().parent.parent.parent

SMALL_STUDIES = 24
"""Studies of a reduced run: those with the most rows on the drugs of `SMALL_DRUGS`."""
SMALL_DRUGS = ("clofarabine", "cytarabine", "lenalidomide")
SMALL_LEARNED = (
    "rho",
    "rho.sd",
    "rho_platelet_ratio",
    "ln_kill",
    "kill_log10",
    "max_stem.clofarabine",
    "max_blasts.clofarabine",
    "ec50.lenalidomide",
    "platelet_ratio.lenalidomide",
    "hazard_neutropenia",
    "stem_start.aml",
    "capacity.aml_relapsed",
)
"""Parameters of the marrow that a reduced run learns; the others are held at prior medians."""

PLANS = {
    "reduced": LearningPlan(
        "reduced",
        rounds=(300, 300, 400),
        powers=(0.4, 1.0),
        patients=64,
        scout=ChainSettings(draws=150, tune=200, chains=2, depth=6),
        chains=ChainSettings(draws=600, tune=400, depth=7),
        training=Training(width=12, steps=2000, networks=2),
    ),
    "full": LearningPlan(
        "full",
        rounds=(1000, 600, 800, 1200, 1200, 1200),
        powers=(0.1, 0.4, 1.0, 1.0, 1.0),
        scout=ChainSettings(draws=200, tune=300, chains=2, depth=7),
        chains=ChainSettings(draws=1000, tune=600),
        training=Training(),
    ),
}


def arguments(text: str | None) -> argparse.ArgumentParser:
    """Parser of what all scripts are asked."""
    ask = argparse.ArgumentParser(description=(text or "").splitlines()[0])
    ask.add_argument("--full", action="store_true", help="an hour; minutes without")
    default = str(ROOT / "build" / "evidence")
    ask.add_argument("--out", type=results_folder, default=default, help="results")
    ask.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    ask.add_argument("--variant", choices=sorted(VARIANTS), default=SHIPPED,
                     help="mechanisms of the marrow")  # fmt: skip
    return ask


def table_with(rows: Path) -> tuple[EvidenceTable, list[str]]:
    """Join published rows and those of a file, which take the place of those they replace.

    Each patient of the file is counted once, as `pkpd learn` does; sentences say which of its rows
    were taken apart or left out, and which published ones of the same arms stand beside them.
    """
    (read, own, told), published = read_once(rows), published_rows()
    table = joined(published, own)
    uses = how_used(table)
    others, mine = uses[: -len(own)], uses[-len(own) :]
    unused = [use for use in mine if not use.kind]
    told += [f"row {use.row.line}, {use.row.id}: not used, {use.why}" for use in unused]
    told += counted_beside(
        [row for row, use in zip(read, mine, strict=True) if use.kind],
        [use.row for use in others if use.kind],
    )
    return refined(table), told


def results_folder(text: str) -> Path:
    """Make a folder that a script is to write to; refused as an argument if it cannot be."""
    folder = Path(text)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"the folder {folder} cannot be made ({error.strerror}); name another"
        raise argparse.ArgumentTypeError(msg) from None
    return folder


def problem(
    plan: LearningPlan,
    variant: str = SHIPPED,
    rows: Path | None = None,
    say: Callable[[str], None] = print,
) -> tuple[Prior, EvidenceLikelihood]:
    """Prior and likelihood of a plan: a reduced one has few studies and parameters.

    ``rows`` is a table of one's own that is learned from, too; ``say`` gets a sentence on each that
    is not learned from as it stands.
    """
    table, told = (load_learning_table(), []) if rows is None else table_with(rows)
    for line in told:
        say(line)
    prior, whole = marrow_prior(variant=variant), EvidenceLikelihood(table)
    if plan.name == "full":
        return prior, whole
    about = {
        study: sum(
            len(term.rows) for term in whole.terms if term.study == study and _small(term.rows[0])
        )
        for study in whole.studies
    }
    own_studies = () if rows is None else load_evidence(rows).studies
    kept = {*sorted(about, key=lambda study: -about[study])[:SMALL_STUDIES], *own_studies}
    used = tuple(row for row in whole.table if row.study in kept)
    entries = {entry.name: entry for entry in prior.entries}
    cards = leukaemia_cards(variant).parameters
    own = [n for n in prior.names if n in SMALL_LEARNED or n.startswith(("between.", "discrep"))]
    # a resistance that is held is its card's, not the centre of all
    medians = {**prior.fixed, **prior.theta(np.zeros(prior.size))}
    medians |= {n: c.value for n, c in cards.items() if n.startswith("resistance.")}
    held = {name: value for name, value in medians.items() if name not in own}
    table = replace(whole.table, rows=used)
    return Prior([entries[name] for name in own], fixed=held), EvidenceLikelihood(table)


def _small(row) -> bool:
    drugs = {entry.drug for entry in row.simulated.drugs} if row.simulated else set()
    return bool(drugs) and drugs <= {*SMALL_DRUGS, "daunorubicin"}


def variant_of(name: str) -> Variant:
    """Mechanisms by the name of a variant."""
    return VARIANTS[name]


def file_name(plan: LearningPlan, variant: str) -> str:
    """Plan, and variant and seed where they are not those that ship."""
    name = plan.name if variant == SHIPPED else f"{plan.name}_{variant}"
    return name if plan.seed == PLANS[plan.name].seed else f"{name}_seed{plan.seed}"


def write_csv(file: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write rows with the same keys."""
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(
            {k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows
        )
