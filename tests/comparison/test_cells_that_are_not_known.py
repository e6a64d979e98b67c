"""A cell of other rules that nothing is known of has a dash and no number."""

import numpy as np

import pkpd
from pkpd.report.comparison.figures import sensitivity_panel

FILE = """
title = "One dose"
population = "rr_aml"
rule = "leukemia_d42_generic"
horizon_days = 56
dose.clofarabine = { amount = "20 mg/m^2", days = "1-5", route = "iv", duration = "1 h" }
course.treatment = { doses = ["clofarabine"], cycle_days = 42 }
cohort = [{ id = "20 mg" }]
"""


def test_cells_without_a_number_have_a_dash(tmp_path):
    (tmp_path / "one.toml").write_text(FILE)
    (trial,) = pkpd.compare(str(tmp_path / "one.toml"), patients=20, draws=3).trials
    data = trial.curves["dlt_sensitivity"]
    data.values[..., -1, :] = np.nan
    written = [text.get_text() for text in sensitivity_panel(trial, "20 mg").texts]
    assert "-" in written
    assert not any("nan" in text for text in written)
