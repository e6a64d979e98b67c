"""Predictions at other times leave the course of a subject as it is."""

from __future__ import annotations

import numpy as np
import pytest

from pkpd.data.dataset import Dataset, Observations
from pkpd.data.events import EventTable
from pkpd.data.nonmem import read_nonmem
from pkpd.errors import DataError, PkpdError
from pkpd.predict.pk import compartments
from pkpd.solve.events.timeline import EventOptions

TABLE = """\
ID,TIME,AMT,RATE,DV,WT,OCC
1,0,100,0,.,70,1
1,1,.,.,5,70,1
1,24,100,20,.,75,2
1,30,.,.,2,80,2
2,0,50,0,.,55,1
2,3,.,.,4,55,1
"""


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "trial.csv"
    path.write_text(TABLE)
    return read_nonmem(path, covariates=["WT"])


def test_predictions_at_the_old_times_are_the_old_ones(data):
    structure = compartments(1)
    values = {"CL": 0.1 * data.covariates["WT"], "V": 0.5 * data.covariates["WT"]}
    expected = np.asarray(structure.bind(data)(values))
    dense = data.at_times({1: [0.5, 1, 12, 24, 27, 30, 40], 2: [3, 9]})
    wt = dense.covariates["WT"]
    found = np.asarray(structure.bind(dense)({"CL": 0.1 * wt, "V": 0.5 * wt}))
    seen = dense.observations
    assert seen.subject.tolist() == [0] * 7 + [1] * 2
    assert seen.time.tolist() == [0.5, 1, 12, 24, 27, 30, 40, 3, 9]
    # exact solution on another set of records: rounding only
    np.testing.assert_allclose(found[[1, 5, 7]], expected, rtol=1e-12)
    assert dense.occasion is not None
    assert dense.occasion[0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1]


def test_covariates_that_are_carried_forward_are_those_of_the_record_before(data):
    structure = compartments(1, options=EventOptions(carry="forward"))
    values = {"CL": 0.1 * data.covariates["WT"], "V": 0.5 * data.covariates["WT"]}
    expected = np.asarray(structure.bind(data)(values))
    dense = data.at_times({1: [0.5, 1, 12, 24, 27, 30, 40], 2: [3, 9]}, carry="forward")
    wt = dense.covariates["WT"]
    found = np.asarray(structure.bind(dense)({"CL": 0.1 * wt, "V": 0.5 * wt}))
    np.testing.assert_allclose(found[[1, 5, 7]], expected, rtol=1e-12)
    assert wt[0].tolist() == [70, 70, 70, 70, 70, 75, 75, 75, 80, 80, 80]
    with pytest.raises(PkpdError, match="at_times, carry"):
        data.at_times([1.0], carry="before")


def test_several_lines_at_each_time(data):
    dense = data.at_times([1.0, 2.0], lines=["concentration", "neutrophils"])
    assert dense.lines == ("concentration", "neutrophils")
    assert dense.observations.line.tolist() == [0, 1, 0, 1] * 2
    assert np.all(np.isnan(dense.observations.value))
    assert dense.at_times([5.0]).observations.time.tolist() == [5.0, 5.0] * 2


def test_subjects_by_label(data):
    second = data.subset([2])
    assert second.subjects.tolist() == [2]
    assert second.observations.subject.tolist() == [0]
    assert second.observations.value.tolist() == [4.0]
    assert second.covariates["WT"][0, 0] == 55
    swapped = data.subset([2, 1])
    assert swapped.observations.value.tolist() == [4.0, 5.0, 2.0]
    predicted = np.asarray(compartments(1).bind(swapped)({"CL": 1.0, "V": 10.0}))
    assert np.all(np.isfinite(predicted))


def test_what_cannot_be_asked(data):
    with pytest.raises(DataError, match="there is no subject 9"):
        data.subset([9])
    with pytest.raises(DataError, match="there is no subject 9"):
        data.at_times({9: [1.0]})
    with pytest.raises(DataError, match="not finite"):
        data.at_times([np.nan])
    events = EventTable.from_columns([1, 1], [5.0, 0.0], evid=[0, 3])
    empty = Observations(*(np.zeros(0, dtype=np.int64) for _ in range(8)))
    with pytest.raises(DataError, match="runs backwards"):
        Dataset(events, empty, ("DV",)).at_times([1.0])
