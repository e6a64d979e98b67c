"""Faults in data are told in the words of the data: their unit of time, their codes, infinity."""

import re

import numpy as np
import pandas as pd
import pytest

import pkpd
from pkpd.checks import look_before_fit
from pkpd.errors import DataError
from pkpd.models import PopulationModel, compartments, parameter, residual


def study(times=1.0):
    rows = []
    for subject, clearance in enumerate((1.6, 1.8, 2.0, 2.2, 2.4), 1):
        rows.append((subject, 0.0, 100.0, np.nan))
        rows += [
            (subject, t * times, 0.0, 10 * np.exp(-clearance / 10 * t))
            for t in (2, 4, 8, 12, 24, 36)
        ]
    return pd.DataFrame(rows, columns=["ID", "TIME", "AMT", "DV"])


def model():
    values = [parameter("CL", 2.0, iiv=0.2), parameter("V", 10.0, iiv=0.1)]
    return PopulationModel(compartments(1), values, residual.proportional(0.1))


@pytest.mark.parametrize(
    ("times", "declared", "words"),
    [
        (
            1.0,
            "day",
            "With all times divided by 24 the model's start fits, half of the values within a "
            r"factor of 1\.\d+: times seem to be hours and not in the declared unit, day. "
            r"Declare units=\{'TIME': 'h'\}.",
        ),
        (1 / 24, None, "multiplied by 24 .* to be days that are read as hours.*'TIME': 'day'"),
        (1 / 24, "h", "multiplied by 24 .* to be days and not in the declared unit, h"),
        (60.0, None, "divided by 60 .* to be minutes that are read as hours.*'TIME': 'min'"),
    ],
)
def test_times_in_another_unit_are_named_by_it(times, declared, words):
    data = pkpd.read_nonmem(study(times), units={"TIME": declared} if declared else None)
    assert data.time_unit == declared
    told = [str(one) for one in look_before_fit(data, model()).findings if one.kind == "time unit"]
    assert len(told) == 1
    assert re.search(words, told[0])


def test_times_that_fit_are_not_doubted():
    days = study(1 / 24)
    for options in ({"units": {"TIME": "day"}}, {"time_unit": "day"}):
        data = pkpd.read_nonmem(days, **options)
        assert data.time_unit == "day"
        found = look_before_fit(data, model()).findings
        assert "time unit" not in [one.kind for one in found]
    assert data.at_times([1.0]).time_unit == "day"


def coded(codes, **options):
    table = study()
    return pkpd.read_nonmem(table.assign(DVID=np.resize(codes, len(table))), **options)


def test_lines_are_to_be_named_by_the_codes_of_the_data():
    with pytest.raises(DataError, match=r'codes, such as read_nonmem\(lines=\{"cp": "concentr'):
        look_before_fit(coded(["cp"]), model())
    with pytest.raises(DataError, match=r'read_nonmem\(lines=\{1: "concentration"\}\)'):
        look_before_fit(coded([1]), model())
    with pytest.raises(DataError, match=r'"concentration", "pca": None\}\) \(None leaves'):
        look_before_fit(coded(["cp", "pca"], allow_replicates=True), model())
    named = coded(["cp"], lines={"cp": "concentration"})
    assert named.lines == ("concentration",)
    look_before_fit(named, model())


def test_infinity_is_told_as_such():
    table = study()
    table.loc[2, "DV"] = np.inf
    with pytest.raises(DataError, match=r"row 2, .*column DV: 'inf' is not a finite number"):
        pkpd.read_nonmem(table)
    table.loc[2, "DV"] = np.nan
    with pytest.raises(DataError, match="an observation without a value"):
        pkpd.read_nonmem(table)
