"""Periods between resets are analysed as if they were of subjects of their own."""

import numpy as np
import pandas as pd
import pytest

import pkpd

HOURS = np.array([0.5, 1.0, 2.0, 4.0, 8.0, 24.0])


def curve(dose):
    return dose / 20.0 * np.exp(-0.15 * HOURS)


def rows(subject, dose, evid):
    yield (subject, 0.0, evid, dose, np.nan)
    for t, c in zip(HOURS, curve(dose), strict=True):
        yield (subject, t, 0, 0.0, c)


def table(parts):
    every = [row for part in parts for row in part]
    frame = pd.DataFrame(every, columns=["ID", "TIME", "EVID", "AMT", "DV"])
    return frame.astype(object).where(frame.notna(), ".")


def test_a_reset_begins_a_period_with_a_clock_of_its_own():
    crossed = pkpd.nca(table([rows(1, 100.0, 1), rows(1, 50.0, 4), rows(2, 80.0, 1)]), route="iv")
    apart = pkpd.nca(table([rows(1, 100.0, 1), rows(2, 50.0, 1), rows(3, 80.0, 1)]), route="iv")
    assert crossed["subject"].tolist() == [1, 1, 2]
    assert crossed["period"].tolist() == [1, 2, 1]
    assert crossed["profile"].tolist() == [1, 2, 1]
    assert "period" not in apart.columns
    numbers = ["dose", "cmax", "auc_last", "lambda_z", "auc_inf", "cl_f", "vss"]
    np.testing.assert_allclose(crossed[numbers], apart[numbers])
    assert (crossed["remark"] == "").all()
    # closed forms of a bolus: clearance 3 L/h, volume 20 L
    assert crossed["cl_f"].to_numpy() == pytest.approx(3.0, rel=1e-6)
    assert crossed["vss"].to_numpy() == pytest.approx(20.0, rel=1e-6)
