"""Risks of the doses of a dose-finding trial, predicted from a schedule file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pkpd.comparison.scenario import check_schedules
from pkpd.designs.design_card import DesignFile
from pkpd.designs.predicted import Predicted
from pkpd.errors import PkpdError

PATIENTS, DRAWS = 300, 100


def predicted_risks(
    path: Path, *, seed: int = 1, jobs: int | None = None, design: DesignFile | None = None
) -> Predicted:
    """Simulate the cohorts of a schedule file and give their DLT risks.

    Parameters
    ----------
    path
        The schedule file; its cohorts are the doses.
    seed, jobs
        As of `pkpd.compare`, which simulates 300 patients under 100 draws.
    design
        Whose doses the cohorts must be.

    Returns
    -------
    Predicted
        Risks by draw, among the patients whom the rule can judge, these patients' share,
        and the Monte Carlo error of the risks.

    Raises
    ------
    PkpdError
        If the file cannot be compared, has several trials, or too few of a cohort can be judged.
    """
    from pkpd.comparison.run import compare  # takes long to load, and few designs ask

    if design is not None:
        check_schedules(path, design)
    found = compare(str(path), patients=PATIENTS, draws=DRAWS, seed=seed, jobs=jobs)
    if len(found.trials) != 1:
        what = f"it has {len(found.trials)} trials"
        raise PkpdError(where=str(path), what=what, remedy="name a file of one trial")
    trial = found.trials[0]
    if "dlt" not in trial.curves:
        raise PkpdError(where=str(path), what="it has no DLT rule", remedy="add rule = to it")
    risks = trial.curves["dlt"].transpose("draw", "cohort")
    cohorts = tuple(str(name) for name in risks["cohort"].values)
    # a cohort's first row is of the clock that the risks by draw are of
    rows = {row.cohort: row for row in reversed(trial.rows) if row.endpoint == "dlt"}
    for name, column in zip(cohorts, risks.values.T, strict=True):
        if not np.isfinite(column).all():
            what = f"too few patients of cohort {name} can be judged"
            raise PkpdError(where=str(path), what=what, remedy="give true risks with --risks")
    shares = tuple(
        1.0 if np.isnan(rows[one].evaluable) else float(rows[one].evaluable) for one in cohorts
    )
    errors = tuple(float(rows[one].mc_error) for one in cohorts)
    words = f"{PATIENTS} patients under {DRAWS} draws of the parameters"
    return Predicted(cohorts, np.clip(risks.values, 0.0, 1.0), shares, errors, words)
