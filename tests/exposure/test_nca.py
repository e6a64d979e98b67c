"""Non-compartmental analysis beside printed answers of WinNonlin and closed forms.

The numbers of WinNonlin (6.3 and 7.0) are those that the R package NonCompart is tested against:
files ``tests/Final_Parameters_Pivoted_*.csv`` of github.com/cran/NonCompart, doses of 320 mg
(theophylline, 12 subjects, R's ``Theoph``) and 25 mg into a vein (indometacin, 6 subjects, R's
``Indometh``). Eight digits of them are kept here, so 1e-7 is asked for.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import pkpd
from pkpd.errors import DataError, PkpdError, PkpdWarning
from pkpd.exposure.areas import Slope, area_between, areas

THEOPHYLLINE = "fits/data/theophylline.csv"
WINNONLIN_DOSE = 320.0  # of every subject there; the file has the dose of each

# points, lambda_z, AUClast, AUCINF_obs, AUCINF_pred, % extrapolated, Vz/F, CL/F, MRTINF_obs
LOG_DOWN = """
3 0.048456997 147.23475 214.92363 214.92665 31.494388 30.726232 1.488901 21.149805
4 0.10408644 88.731275 97.377935 97.268793 8.879485 31.571502 3.2861654 10.36646
3 0.10244431 95.878198 106.12767 106.17742 9.6576801 29.43293 3.0152363 10.917526
3 0.099287021 102.63362 114.2162 114.28088 10.140927 28.21823 2.801704 11.504068
4 0.086618884 118.17935 136.30473 136.13958 13.297688 27.103568 2.3476808 12.394928
7 0.08779574 71.697015 82.175883 82.418164 12.751756 44.353935 3.8940865 12.022287
4 0.088336496 87.969227 100.98763 101.10897 12.891086 35.870847 3.1687049 12.459995
6 0.08145054 86.806563 102.1533 101.88966 15.023241 38.459498 3.1325469 12.872253
3 0.082458634 83.937436 97.520004 97.477354 13.927981 39.794232 3.281378 12.509447
3 0.074959824 135.57607 167.86003 167.77588 19.232667 25.431626 1.9063502 14.908576
3 0.09545856 77.893472 86.902617 86.900591 10.366943 38.574672 3.6822827 10.793156
3 0.11025949 115.22021 125.83154 125.88178 8.4329665 23.064524 2.5430826 10.610516
"""
# AUClast, AUCINF_obs, MRTINF_obs
LINEAR = """
148.92305 216.61193 20.800031
91.5268 100.17346 9.9804109
99.2865 109.53597 10.507642
106.7963 118.37888 11.009163
121.2944 139.41978 11.961873
73.77555 84.254418 11.612785
90.7534 103.7718 11.998427
88.55995 103.90669 12.493092
86.32615 99.908718 12.028695
138.3681 170.65206 14.497296
80.0936 89.102745 10.421227
119.9775 130.58883 10.187579
"""
HOURS = (0.25, 0.5, 0.75, 1, 1.25, 2, 3, 4, 5, 6, 8)
INDOMETACIN = """
1.50 0.94 0.78 0.48 0.37 0.19 0.12 0.11 0.08 0.07 0.05
2.03 1.63 0.71 0.70 0.64 0.36 0.32 0.20 0.25 0.12 0.08
2.72 1.49 1.16 0.80 0.80 0.39 0.22 0.12 0.11 0.08 0.08
1.85 1.39 1.02 0.89 0.59 0.40 0.16 0.11 0.10 0.07 0.07
2.05 1.04 0.81 0.39 0.30 0.23 0.13 0.11 0.08 0.10 0.06
2.31 1.44 1.03 0.84 0.64 0.42 0.24 0.17 0.13 0.10 0.09
"""
# points, lambda_z, AUClast, AUCINF_obs, Vz, CL, MRTINF_obs, Vss; as a bolus, and over 15 minutes
BOLUS = """
3 0.15832048 2.0098984 2.3257135 67.89639 10.749389 3.365032 36.172039
9 0.30228002 3.2028878 3.4675431 23.851116 7.2097158 2.7125665 19.556833
10 0.42189265 3.4743971 3.6640188 16.172619 6.8231092 1.9164006 13.07581
11 0.45544546 2.7483832 2.9020789 18.91448 8.6145142 2.057835 17.727249
8 0.25274778 2.3983736 2.6357645 37.527191 9.4849143 2.498579 23.698808
9 0.35352052 3.2908266 3.5454087 19.94615 7.0513732 2.3543721 16.601556
"""
INFUSION = """
3 0.15832048 1.7193653 2.0351804 77.588971 12.283923 3.7163591 45.651471
9 0.30228002 2.8891436 3.1537989 26.223857 7.9269481 2.8558604 22.638257
10 0.42189265 2.8817113 3.071333 19.293505 8.1397881 2.1547159 17.538931
10 0.42907615 2.4442459 2.6073871 22.346017 9.588143 2.20852 21.175606
8 0.25274778 1.9211984 2.1585892 45.822908 11.581638 2.9178858 33.793898
9 0.35352052 2.8413138 3.0958959 22.842258 8.0752068 2.5670666 20.729593
"""


def numbers(text):
    return np.array([line.split() for line in text.split("\n") if line], dtype=float).T


def frame(times, levels, dose=100.0, **columns):
    """One subject: a dose at 0, then samples."""
    rows = {"ID": 1, "TIME": [0.0, *times], "AMT": [dose, *[0.0] * len(times)]}
    return pd.DataFrame({**rows, "DV": [None, *levels], **columns})


def columns_of(table, names):
    return np.array([table[name].to_numpy(dtype=float) for name in names])


def test_oral_doses_are_analysed_as_winnonlin_does():
    found = pkpd.nca(THEOPHYLLINE)
    relative = found["dose"].to_numpy() / WINNONLIN_DOSE
    names = ["points", "lambda_z", "auc_last", "auc_inf", "extrapolated", "vz_f", "cl_f", "mrt"]
    points, rate, last, inf, predicted, share, vz, cl, mrt = numbers(LOG_DOWN)
    expected = np.array([points, rate, last, inf, share, vz * relative, cl * relative, mrt])
    np.testing.assert_allclose(columns_of(found, names), expected, rtol=1e-7)
    by_line = pkpd.nca(THEOPHYLLINE, extrapolate="predicted")
    np.testing.assert_allclose(by_line["auc_inf"], predicted, rtol=1e-7)
    linear = pkpd.nca(THEOPHYLLINE, method="linear")
    names = ["auc_last", "auc_inf", "mrt"]
    np.testing.assert_allclose(columns_of(linear, names), numbers(LINEAR), rtol=1e-7)
    remarks = list(found["remark"])
    assert remarks[0].startswith("31 % of auc_inf is extrapolated; 0.74 measured before")
    # three had a concentration at the time of the dose, which is before it
    assert [n for n, one in enumerate(remarks) if one] == [0, 6, 9]


@pytest.mark.parametrize(("rate", "printed"), [(0.0, BOLUS), (100.0, INFUSION)])
def test_doses_into_a_vein_are_analysed_as_winnonlin_does(rate, printed):
    levels = numbers(INDOMETACIN).T
    frames = [frame(HOURS, c, 25.0, RATE=[rate, *[0.0] * 11]) for c in levels]
    data = pd.concat([one.assign(ID=i) for i, one in enumerate(frames)])
    found = pkpd.nca(data, route="iv")
    names = ["points", "lambda_z", "auc_last", "auc_inf", "vz_f", "cl_f", "mrt", "vss"]
    np.testing.assert_allclose(columns_of(found, names), numbers(printed), rtol=1e-7)


def test_a_bolus_in_one_compartment_has_its_closed_form():
    """C = (D / V) exp(-k t): every area, moment and volume is known, and log-down is exact."""
    k, volume = 0.2, 10.0
    times = np.array([0.5, 1.0, 3.0, 7.0, 12.0])
    data = frame(times, 100.0 / volume * np.exp(-k * times))
    found = pkpd.nca(data, route="iv", intervals=[(0, 5), (2, 30)]).iloc[0]
    for name, value in {
        "lambda_z": k, "auc_inf": 10 / k, "cl_f": k * volume, "vz_f": volume, "mrt": 1 / k,
        "vss": volume, "half_life": np.log(2) / k, "extrapolated": 100 * np.exp(-12 * k),
        "auc_0_5": 10 / k * (1 - np.exp(-5 * k)),
        "auc_2_30": 10 / k * (np.exp(-2 * k) - np.exp(-30 * k)),
    }.items():  # fmt: skip
        assert found[name] == pytest.approx(value, rel=1e-12), name


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("apart", "within"), [(0.0, 1e-12), (0.1, 1e-3), (-0.1, 1e-3)])
def test_a_bolus_with_replicates_is_carried_back_through_the_next_time(apart, within):
    """To D / V, as without replicates: areas are exact where replicates are equal."""
    k, volume = 0.2, 10.0
    times = np.array([0.5, 0.5, 1.0, 3.0, 7.0, 12.0])
    levels = 100.0 / volume * np.exp(-k * times)
    levels[:2] += apart, -apart  # whose mean is the curve's
    data = frame(times, levels)
    found = pkpd.nca(pkpd.read_nonmem(data, allow_replicates=True), route="iv").iloc[0]
    assert found.auc_inf == pytest.approx(10 / k, rel=within)
    assert found.cl_f == pytest.approx(k * volume, rel=within)


@pytest.mark.parametrize("nothing", [0.0, "<0.05"])
@pytest.mark.parametrize("after", [False, True])
def test_nothing_at_the_time_of_a_bolus_is_a_sample_before_it(after, nothing):
    """As in PKNCA, the curve is carried back to D / V: areas from 0 to 24 h are exact."""
    k, volume = 0.5, 10.0
    times = np.array([0.5, 1.0, 3.0, 7.0, 12.0])
    rows = []
    for given in (0.0, 24.0):
        pair = [(given, 100.0, None), (given, 0.0, nothing)]
        rows += pair if after else pair[::-1]
        rows += [(given + t, 0.0, 100.0 / volume * np.exp(-k * t)) for t in times]
    data = pd.DataFrame(rows, columns=["TIME", "AMT", "DV"]).assign(ID=1)
    found = pkpd.nca(data, route="iv", intervals=[(0, 24)])
    np.testing.assert_allclose(found.auc_0_24, 10 / k * (1 - np.exp(-24 * k)), rtol=1e-12)
    assert found.cl_f[0] == pytest.approx(k * volume, rel=1e-12)
    assert found.vss[0] == pytest.approx(volume, rel=1e-12)
    assert found.samples.tolist() == [6, 5]  # the second 0 is the end of the first profile
    assert found.remark[0] == ""


def test_a_dosing_interval_gives_the_steady_state():
    """Boluses of 100 every 12 h for ever: auc_tau is dose / clearance, the mean is auc_tau / 12."""
    k, volume, tau = 0.2, 10.0, 12.0
    times = np.array([0.0, 1.0, 3.0, 6.0, 9.0, tau])
    peak = 10.0 / (1 - np.exp(-k * tau))
    data = frame(
        times, peak * np.exp(-k * times), SS=[1, *[0] * 6], II=[tau, *[0] * 6], EVID=[1, *[0] * 6]
    )
    found = pkpd.nca(data, route="iv").iloc[0]
    trough = peak * np.exp(-k * tau)
    for name, value in {
        "auc_tau": 100 / (k * volume), "cavg": 100 / (k * volume * tau), "cmin": trough,
        "ctrough": trough, "cl_f": k * volume, "vz_f": volume, "mrt": 1 / k,
        "fluctuation": 100 * (peak - trough) / (100 / (k * volume * tau)),
        "swing": 100 * (peak / trough - 1),
    }.items():  # fmt: skip
        assert found[name] == pytest.approx(value, rel=1e-12), name


def test_profiles_end_at_the_next_dose():
    times = [0.0, 1.0, 4.0, 24.0, 24.0, 25.0, 28.0, 48.0]
    data = pd.DataFrame(
        {
            "ID": 1, "TIME": times, "AMT": [100.0, 0, 0, 0, 100.0, 0, 0, 0],
            "DV": [None, 10.0, 5.0, 1.0, None, 11.0, 6.0, 1.5],
        }
    )  # fmt: skip
    found = pkpd.nca(data, tau_h=24.0)
    assert list(found["start"]) == [0.0, 24.0]
    assert list(found["tlast"]) == [24.0, 24.0]
    assert list(found["ctrough"]) == [1.0, 1.5]
    # the second begins with the sample at the time of its dose
    second = (1 + 11) / 2 + 3 * 5 / np.log(11 / 6) + 20 * 4.5 / np.log(4)
    assert found["auc_tau"][1] == pytest.approx(second)
    assert np.isnan(found["cl_f"][1])
    assert "earlier doses" in found["remark"][1]
    steady = pkpd.nca(data, tau_h=24.0, steady_state=True)
    assert steady["cl_f"][1] == pytest.approx(100.0 / second)


def test_values_below_the_limit_follow_the_rules():
    times, words = [0.5, 1, 2, 4, 6, 8, 12], ["<1", "8", "6", "<1", "3", "<1", "<1"]
    data = frame(times, words, 100.0)
    found = pkpd.nca(data, method="linear").iloc[0]
    assert (found["tlast"], found["clast"], found["samples"]) == (6.0, 3.0, 7)
    assert found["auc_last"] == pytest.approx(0.5 * 8 / 2 + 7.0 + 4 * 4.5)
    zero = pkpd.nca(data, method="linear", below={"middle": "zero"}).iloc[0]
    assert zero["auc_last"] == pytest.approx(2.0 + 7.0 + 6.0 + 3.0)
    half = pkpd.nca(data, method="linear", below={"first": "half"}).iloc[0]
    assert half["auc_last"] == pytest.approx(0.125 + 0.5 * 8.5 / 2 + 7.0 + 18.0)
    kept = pkpd.nca(data, method="linear", below={"last": "zero"}, intervals=[(0, 24)]).iloc[0]
    assert kept["auc_0_24"] == pytest.approx(27.0 + 3.0)
    assert pkpd.nca(frame([1, 2], ["<1", "<1"])).iloc[0]["remark"] == "nothing measurable"


def test_a_slope_that_there_is_not_is_told():
    found = pkpd.nca(frame([1, 2, 3], [1.0, 2.0, 3.0]), intervals=[(0, 24)]).iloc[0]
    assert found["remark"] == "no terminal slope"
    assert np.isnan(found["auc_inf"])
    assert np.isnan(found["auc_0_24"])
    assert found["auc_last"] == 4.5


def test_intervals_go_on_from_where_the_whole_area_does():
    data = frame([1, 2, 4, 8], [8.0, 4.0, 2.2, 0.5])
    for kind in ("observed", "predicted"):
        given = {"extrapolate": kind, "intervals": [(0, 8), (0, 1000), (8, 1000)], "tau_h": 1000.0}
        found = pkpd.nca(data, **given).iloc[0]
        assert found["auc_0_1000"] == pytest.approx(found["auc_inf"], rel=1e-12)
        assert found["auc_tau"] == pytest.approx(found["auc_inf"], rel=1e-12)
        assert found["auc_0_8"] + found["auc_8_1000"] == pytest.approx(found["auc_inf"], rel=1e-12)


def test_units_that_were_declared_are_kept():
    data = pkpd.read_nonmem(frame([1, 2, 4], [8.0, 4.0, 2.0]), units={"AMT": "mg", "DV": "mg/L"})
    units = pkpd.nca(data, intervals=[(0, 2)]).attrs["units"]
    assert units["auc_0_2"] == "mg/L h"
    assert (units["auc_inf"], units["cl_f"], units["cmax"]) == ("mg/L h", "L/h", "mg/L")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"tau_h": 0.0}, "nca, tau_h: 0 h; allowed: more than 0"),
        ({"intervals": None}, "nca, intervals: None is given; allowed: pairs of hours since the"),
        ({"intervals": iter([(0, 24)])}, "nca, intervals: .* is a list_iterator; allowed: pairs"),
        ({"intervals": [(12, 0)]}, "nca, intervals: .*such as"),
        ({"below": {"end": "drop"}}, "'end' is no place of a value; allowed: first, middle"),
        ({"below": {"last": "ignore"}}, "below, last: 'ignore'; allowed: zero, half, limit, drop"),
        ({"line": "plasma"}, "'plasma' is none of its lines; allowed: DV"),
        ({"steady_state": True}, "a profile at steady state has no dosing interval"),
        ({"least_points": 2}, "least_points: 2 is given; allowed: a whole number from 3"),
    ],
)
def test_what_cannot_be_used_is_refused(given, words):
    with pytest.raises(PkpdError, match=words):
        pkpd.nca(frame([1, 2, 4], [8.0, 4.0, 2.0]), **given)


def test_data_that_cannot_be_analysed_are_refused():
    with pytest.raises(DataError, match="row 2, ID 1, column DV: 9 is the upper limit"):
        pkpd.nca(frame([1, 2], ["8", ">9"]))
    with pytest.raises(DataError, match="no dose is followed by samples"):
        pkpd.nca(pd.DataFrame({"ID": 1, "TIME": [0, 1, 2], "DV": [1, 2, 3.0]}))


def test_doses_with_a_rate_are_asked_about():
    table = frame(HOURS, np.exp(-0.1 * np.asarray(HOURS)), 25.0, RATE=[100.0, *[0.0] * 11])
    with pytest.warns(PkpdWarning, match='1 dose has a rate, as infusions .* give route="iv"'):
        pkpd.nca(table)


def test_values_that_are_alike_but_for_rounding_have_the_area_of_a_line():
    """0.1 + 0.2 above 0.3: the area of an hour was 0.25, a sixth too small."""
    for gap in (5e-17, 1e-12, 1e-9, 1e-6, 1e-4):
        level = np.array([0.3 + gap, 0.3])
        area, moment = (float(part[0]) for part in areas(np.array([100.0, 101.0]), level))
        assert area == pytest.approx(level.mean(), rel=1e-8)
        assert moment == pytest.approx(100.5 * level.mean(), rel=1e-6)
    # an exponential in closed form: the mean of a to b, and its first moment
    a, b, t, u = 8.0, 1.0, 2.0, 5.0
    area, moment = (float(part[0]) for part in areas(np.array([t, u]), np.array([a, b])))
    k = np.log(a / b) / (u - t)
    assert area == pytest.approx((a - b) / k, rel=1e-14)
    assert moment == pytest.approx((a * t - b * u) / k + (a - b) / k**2, rel=1e-13)


def test_infusions_whose_length_is_modelled_are_no_boluses():
    table = frame([1, 2, 4], [8.0, 4.0, 2.0], RATE=[-2.0, 0.0, 0.0, 0.0])
    with pytest.raises(DataError, match="row 0, ID 1, column RATE: RATE -2 does not say how long"):
        pkpd.nca(table, route="iv")
    assert len(pkpd.nca(table)) == 1


@pytest.mark.parametrize("end", [9.0, 24.0, 520.0, 545.0, 672.0])
@pytest.mark.parametrize("begin", [0.0, 8.0, 9.0])
def test_areas_to_an_hour_when_nothing_measurable_is_left(begin, end):
    """A bolus with a half-life of 0.5 h: C0/k (exp(-k begin) - exp(-k end)), to rounding.

    At 545 h the concentration is 0 as a number: the piece from the last sample was a straight line
    to it, and the area to 672 h 0.7 % of the whole too large, that from 8 h 460 times.
    """
    k, hours = np.log(2.0) / 0.5, np.array([0.0, 0.5, 1.0, 2.0, 4.0, 6.0, 8.0])
    level = 65.536 * np.exp(-k * hours)
    slope = Slope(k, np.log(65.536), 3, 1.0, 4.0)
    how = {"log_down": True, "onward": float(level[-1])}
    area, moment = area_between(hours, level, begin, end, slope, **how)
    from_begin, from_end = (65.536 / k * np.exp(-k * t) for t in (begin, end))
    assert area == pytest.approx(from_begin - from_end, rel=1e-12)
    first = from_begin * (begin + 1.0 / k) - from_end * (end + 1.0 / k)
    assert moment == pytest.approx(first, rel=1e-12)


@pytest.mark.parametrize("rate", [1e-9, 0.9e-5, 1.1e-5, 0.1])
def test_areas_beyond_the_last_point_of_a_slow_fall(rate):
    """Beside Gauss-Legendre quadrature with 20 nodes, on both sides of where a series is taken."""
    slope = Slope(rate, np.log(2.0), 3, 1.0, 0.0)
    time, level = np.array([-1.0, 0.0]), np.array([2.0, 2.0])
    area, moment = area_between(time, level, 0.0, 1.0, slope, log_down=False, onward=2.0)
    nodes, weights = np.polynomial.legendre.leggauss(20)
    t = (nodes + 1.0) / 2.0
    curve = 2.0 * np.exp(-rate * t) * weights / 2.0
    assert area == pytest.approx(curve.sum(), rel=1e-12)
    assert moment == pytest.approx((t * curve).sum(), rel=1e-9)  # two numbers less by each other


def test_an_interval_long_after_the_last_sample_has_the_area_of_all():
    k, hours = np.log(2.0) / 0.5, [0.0, 0.5, 1.0, 2.0, 4.0, 6.0, 8.0]
    frame = pd.DataFrame(
        {
            "ID": 1,
            "TIME": [0.0, *hours],
            "EVID": [1] + 7 * [0],
            "AMT": [100.0] + 7 * [0.0],
            "DV": [np.nan, *(65.536 * np.exp(-k * np.array(hours)))],
        }
    )
    row = pkpd.nca(frame, route="iv", intervals=[(0, 672)]).iloc[0]
    assert row["auc_0_672"] == pytest.approx(row["auc_inf"], rel=1e-12)


@pytest.mark.parametrize("before", [True, False])
def test_the_trough_before_an_infusion_is_of_both_profiles_wherever_its_row_stands(before):
    rows = []
    for start in (0, 12):
        pair = [(start, 100, 100, None), (start, 0, 0, 1.0)]  # the dose, and a level of 1
        rows += pair[:: -1 if before else 1]
        rows += [(start + t, 0, 0, v) for t, v in ((1, 9.0), (2, 8.0), (6, 4.0), (9, 2.0))]
    table = pd.DataFrame(rows, columns=["TIME", "AMT", "RATE", "DV"]).assign(ID=1)
    given = {"tau_h": 12, "steady_state": True, "method": "linear"}
    first, second = pkpd.nca(table, route="iv", **given).to_dict("records")
    assert (first["samples"], second["samples"]) == (6, 5)
    assert (first["cmin"], second["cmin"], first["ctrough"]) == (1.0, 1.0, 1.0)
    area = 5.0 + 8.5 + 4 * 6.0 + 3 * 3.0
    assert second["auc_last"] == pytest.approx(area)
    assert first["auc_tau"] == pytest.approx(area + 3 * 1.5)


def test_a_bolus_with_an_infusion_enters_at_the_mean_time_of_both():
    """exp(-t/2) has a mean residence of 2 h; half of the dose enters at 0, half in 2 h."""
    time = np.array([0.0, 0, 0, 1, 2, 4, 8, 16])
    rows = {"ID": 1, "TIME": time, "AMT": [50, 50, *[0] * 6], "RATE": [0, 25, *[0] * 6],
            "DV": [None, None, *np.exp(-0.5 * time[2:])]}  # fmt: skip
    found = pkpd.nca(pd.DataFrame(rows), route="iv").iloc[0]
    np.testing.assert_allclose(found.mrt, 2.0 - 0.5, rtol=1e-12)
    assert "a bolus" not in found.remark
    later = pkpd.nca(pd.DataFrame(rows).drop(index=2), route="iv").iloc[0]
    assert "a bolus is given with an infusion and no sample with them" in later.remark
