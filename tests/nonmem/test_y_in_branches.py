"""Records where no branch of IF sets Y have no likelihood, and are named."""

from __future__ import annotations

import numpy as np
import pytest

import pkpd
from pkpd.errors import PkpdError
from tests.nonmem.streams import ADVAN1, means_and_sds, predictor_of, written


@pytest.mark.slow
def test_records_where_no_branch_sets_y_are_named(tmp_path):
    text = ADVAN1.replace("Y = F", "IF (ID.EQ.2.OR.TIME.LT.10) Y = F")
    stream = written(tmp_path, text)
    bound, start = predictor_of(stream)
    words = "d.csv, row 6, ID 1: Y has no value: it is set only in a branch of IF (line 10), not"
    assert list(bound.problems(start)) == [0]
    assert words in bound.problems(start)[0]
    assert f"individuals 1 have no likelihood ({words}" in str(stream.verify())
    with pytest.raises(PkpdError, match=r"Y has no value: it is set only in a branch of IF"):
        pkpd.fit(stream.model, stream.data, method="focei", progress=False)


def test_branches_that_set_y_everywhere_are_enough(tmp_path):
    text = ADVAN1.replace("Y = F*(1+EPS(1))", "IF (ID.EQ.1) Y = F+EPS(1)\nIF (ID.EQ.2) Y = EPS(1)")
    stream = written(tmp_path, text)
    bound, start = predictor_of(stream)
    assert bound.problems(start) == {}
    assert np.all(np.isfinite(means_and_sds(stream)))
