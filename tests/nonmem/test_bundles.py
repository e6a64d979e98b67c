"""Streams of the DDMoRe repository against the objectives that NONMEM printed for their data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pkpd.errors import PkpdError
from pkpd.nonmem.stream import read_control_stream

ROOT = Path(__file__).parents[2]
FOLDER = Path(os.environ.get("PKPD_REFERENCE", ROOT.parent / "shared" / "oracles")) / "ddmore"
pytestmark = [
    pytest.mark.reference,
    pytest.mark.skipif(
        not FOLDER.is_dir(), reason="no reference folder (PKPD_REFERENCE or ../shared/oracles)"
    ),
]

# stream, data, listing, NONMEM's objective at the listing's starting values; two that take a minute
# and more (186, 197) are with the others in `make trust`, those that take longest in `make long`
BUNDLES = [
    ("217/*.mod", "Sim*.csv", "Output_sim*.lst", 12151.8389),
    ("223/*.mod", "Sim*.csv", "Output_sim*.lst", 418.626),
    ("224/*.mod", "Sim*.csv", "Output_sim*.lst", -3.998),
    ("249/*.mod", "Sim*.csv", "Output_sim*.lst", 508.1606),
    ("250/*Access*.mod", "Sim*.csv", "Output_sim*Access*.lst", 541.7333),
    ("250/*Final*.mod", "Sim*.csv", "Output_sim*Final*.lst", 541.1009),
    ("256/*.mod", "Sim*.csv", "Output_sim*.lst", 133.4444),
    ("267/*.mod", "Sim*.csv", "Output_sim*.lst", 453.0465),
    ("269/*ModelI1*.mod", "Sim*1*.csv", "Output_sim*ModelI_*.lst", -26.1859),
    ("269/*ModelII*.mod", "Sim*2*.csv", "Output_sim*ModelII*.lst", -40.6619),
    ("271/*.mod", "Sim*.csv", "Output_sim*.lst", 423.6645),
]
LONG = (
    *("217/*.mod", "224/*.mod", "250/*Access*.mod", "250/*Final*.mod", "267/*.mod"),
    *("269/*ModelII*.mod", "271/*.mod"),
)


def only(folder, pattern):
    (found,) = folder.glob(pattern)
    return found


@pytest.mark.parametrize(
    ("stream", "data", "listing", "objective"),
    [
        pytest.param(*one, marks=pytest.mark.long if one[0] in LONG else pytest.mark.slow)
        for one in BUNDLES
    ],
)
def test_the_objective_is_nonmems(stream, data, listing, objective):
    path = only(FOLDER, stream)
    read = read_control_stream(path, data=only(path.parent, data))
    found = read.verify([only(path.parent, listing)])
    assert found.verified, str(found)
    # NONMEM's modes have two digits there (SIGDIGITS=2)
    tolerance = 0.02 if "224" in stream else 5e-3
    assert found.compared[0].ours == pytest.approx(objective, abs=tolerance)


@pytest.mark.slow
def test_equations_that_remember_are_refused():
    path = only(FOLDER, "218/*.mod")
    with pytest.raises(PkpdError, match=r"\$DES: WTS keeps a value"):
        read_control_stream(path, data=only(path.parent, "*.csv"))
