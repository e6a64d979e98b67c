"""Lines of other structures in joint models for data: both engines take them and agree."""

from __future__ import annotations

import numpy as np
import pytest
from marrow_cases import dataset

from pkpd.marrow.gcsf import GcsfMarrow
from pkpd.marrow.stem_cell import StemCellMarrow
from pkpd.predict.marrow import marrow_model
from pkpd.predict.pk import compartments

PARAMETERS = {"CL": 5.0, "V": 50.0, "slope": 1.5, "circ0": 4.0, "MTT": 130.0, "gamma": 0.4}
OWN = {
    StemCellMarrow(): {"ftr": 0.7},
    GcsfMarrow(): {"beta": 0.23, "k_circ": 0.1, "ke": 0.6, "k_anc": 5.6, "g0": 24e-6},
}


@pytest.mark.long
@pytest.mark.parametrize("line", OWN, ids=lambda line: type(line).__name__)
def test_both_engines_agree(line):
    values = PARAMETERS | OWN[line]
    got = {}
    for engine in ("auto", "general"):
        model = marrow_model(compartments(1), lines=line, engine=engine)
        assert set(model.parameters) == set(values)
        rows = [(1, 0.0, 1, 1, 100.0), *((1, 24.0 * day, 0, 101) for day in range(1, 40))]
        predictor = model.bind(dataset(rows, model.lines))
        assert predictor.problems(values) == {}
        got[engine] = np.asarray(predictor(values))
    assert got["auto"].min() < 0.8 * PARAMETERS["circ0"]
    # what each promises at its default step
    np.testing.assert_allclose(got["auto"], got["general"], rtol=1e-5)
