"""Models written for other programs: read back by the reader of control streams, or carried out."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
import warnings

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from stream_in_python import individual_predictions

import pkpd
from pkpd.data.dataset import Dataset, Observations
from pkpd.data.events import EventTable
from pkpd.errors import PkpdError, PkpdWarning
from pkpd.export.dialects import MRGSOLVE, NONMEM, RXODE2
from pkpd.export.equations import equations_of
from pkpd.export.parameters import plain_names
from pkpd.export.tracing import Statements, trace
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.model.population_parameters import start_values
from pkpd.fitting.model.priors import fixed
from pkpd.models import (
    PopulationModel,
    compartments,
    covariate,
    derived,
    export_model,
    from_column,
    marrow_model,
    ode_model,
    parameter,
    residual,
)
from pkpd.nonmem.code import parse_code
from pkpd.nonmem.evaluate import Evaluator
from pkpd.nonmem.records import Line, Record
from pkpd.nonmem.tree import Name
from pkpd.solve.events.timeline import EventOptions


def data_set(lines, times, values, doses, covariates=None, occasion=None):
    """Two subjects with a dose at 0 and observations of every line at given times."""
    rows = []
    for subject in (1, 2):
        rows += [(subject, t, 1, amt, rate, cmt, -1, 0.0) for t, amt, rate, cmt in doses]
        for i, _ in enumerate(lines):
            rows += [
                (subject, t + 0.01 * i, 0, 0.0, 0.0, 0, i, v)
                for t, v in zip(times, values[i], strict=True)
            ]
    rows.sort(key=lambda r: (r[0], r[1]))
    table = np.array([r[:6] for r in rows], dtype=float)
    events = EventTable.from_columns(
        table[:, 0].astype(int),
        table[:, 1],
        evid=table[:, 2],
        amt=table[:, 3],
        rate=table[:, 4],
        cmt=table[:, 5].astype(int),
    )
    line = events.from_rows(np.array([r[6] for r in rows], dtype=float)).astype(int)
    value = events.from_rows(np.array([r[7] for r in rows]))
    b, n = np.nonzero((line >= 0) & events.valid & (events.evid == 0))
    none = np.zeros(len(b), dtype=np.int64)
    seen = Observations(
        b,
        n,
        events.time[b, n],
        line[b, n],
        value[b, n],
        none,
        np.full(len(b), -np.inf),
        events.row[b, n],
    )
    known = {
        k: np.broadcast_to(np.array(v, float)[:, None], events.shape)
        for k, v in (covariates or {}).items()
    }
    return Dataset(events, seen, tuple(lines), known, occasion(events) if occasion else None, ())


def predictions(model, data, random):
    """Predictions of every observation at given random effects, by natural units."""
    likelihood = bind(model, data)
    fixed = likelihood.fixed(start_values(model))
    return np.asarray(likelihood.predictions(fixed, jnp.asarray(random)))


def read_back(path, random):
    """IPRED of the stream at the same random effects."""
    stream = pkpd.read_control_stream(path)
    likelihood = bind(stream.model, stream.data)
    fixed = likelihood.fixed(start_values(stream.model))
    given = likelihood.individual_parameters(fixed, jnp.asarray(random))
    return stream, likelihood.predictor.values(given, "IPRED")["IPRED"]


PK = PopulationModel(
    compartments(2, absorption="first_order", dosing=("ALAG1",)),
    [
        parameter("ka", 0.9, iiv=0.3),
        parameter("CL", 3.0, iiv=0.3, effects=covariate.allometric()),
        parameter(
            "V1",
            20.0,
            iiv=0.2,
            effects=[covariate.category("SEX", 1), covariate.linear("AGE", 50, 0.004)],
        ),
        parameter("Q", 2.0),
        parameter("V2", 30.0, scale="logit", bounds=(10.0, 90.0), iiv=0.4),
        parameter("ALAG1", 0.25),
    ],
    residual.combined(0.1, 0.2),
    correlated=[("CL", "V1")],
    partial={"partial_CL_V1": 0.4},
)
TIMES = [0.5, 1.0, 3.0, 8.0, 24.0]
WT = {"WT": [60.0, 85.0], "SEX": [0.0, 1.0], "AGE": [40.0, 63.0]}


def test_data_that_lie_beside_a_stream_from_before_are_told(tmp_path):
    data = data_set(
        ["concentration"], TIMES, [[1.0, 2.0, 2.0, 1.0, 0.3]], [(0.0, 100.0, 0.0, 1)], WT
    )
    export_model(PK, tmp_path / "run1.mod", data=data)
    with pytest.warns(PkpdWarning, match=r"the stream reads run1\.csv, which lies there from bef"):
        text = export_model(PK, tmp_path / "run1.mod").read_text()
    assert "$DATA run1.csv" in text
    with warnings.catch_warnings():
        warnings.simplefilter("error", PkpdWarning)
        export_model(PK, tmp_path / "run1.mod", data=data)  # written anew
        export_model(PK, tmp_path / "run2.mod")
        export_model(PK, tmp_path / "run1.cpp", "mrgsolve")  # which reads none


@pytest.mark.long
def test_kinetics_with_covariates_come_back_from_nonmem_text(tmp_path):
    data = data_set(
        ["concentration"], TIMES, [[1.0, 2.0, 2.0, 1.0, 0.3]], [(0.0, 100.0, 0.0, 1)], WT
    )
    path = export_model(PK, tmp_path / "run1.mod", data=data)
    random = np.random.default_rng(1).normal(size=(2, 4)) * 0.3
    # the order of ours: the correlated block, then the others
    assert PK.varying == ("CL", "V1", "ka", "V2")
    ours = predictions(PK, data, random)
    stream, theirs = read_back(path, random)
    assert len(theirs) == 10
    np.testing.assert_allclose(theirs, ours, rtol=1e-6)
    # covariances too: the objective at the starting values
    compared = stream.verify([]).compared[0]
    start = {p.name: p.typical.value for p in PK.parameters}
    assert compared.ours == pytest.approx(pkpd_objective(PK, data), abs=1e-3), start


def pkpd_objective(model, data):
    from pkpd.fitting.maximum.marginal import MarginalLikelihood

    marginal = MarginalLikelihood(bind(model, data), "focei")
    return marginal.evaluate(marginal.free.start()).value


@pytest.mark.slow
def test_occasions_and_derived_parameters_come_back(tmp_path):
    model = PopulationModel(
        compartments(1),
        [
            parameter("CL", 3.0, iiv=0.3, iov=0.2),
            parameter("half_life", 6.0),
            derived("V", lambda CL, half_life: CL * half_life / jnp.log(2.0)),
        ],
        residual.lognormal(0.2),
    )
    data = data_set(
        ["concentration"],
        [2.0, 8.0, 26.0, 30.0],
        [[3.0, 2.0, 3.5, 2.0]],
        [(0.0, 100.0, 50.0, 1), (24.0, 100.0, 50.0, 1)],
        occasion=lambda events: (events.time >= 24.0).astype(int),
    )
    path = export_model(model, tmp_path / "run2.mod", data=data)
    random = np.array([[0.2, -0.1, 0.3], [-0.3, 0.2, 0.1]])
    ours = predictions(model, data, random)
    stream = pkpd.read_control_stream(path)
    likelihood = bind(stream.model, stream.data)
    assert stream.model.varying == ("ETA1", "ETA2", "ETA3")
    fixed = likelihood.fixed(start_values(stream.model))
    # those of occasions are standard normal there
    scaled = random / np.array([1.0, 0.2, 0.2])
    given = likelihood.individual_parameters(fixed, jnp.asarray(scaled))
    theirs = likelihood.predictor.values(given, "IPRED")["IPRED"]
    np.testing.assert_allclose(np.exp(theirs), ours, rtol=1e-6)


MARROW = PopulationModel(
    marrow_model(compartments(1), effect="emax", engine="general", general_step_h=0.25),
    [
        parameter("CL", 3.0, iiv=0.3),
        parameter("V", 20.0),
        parameter("Emax", 1.5),
        parameter("EC50", 2.0),
        parameter("circ0", 5.0, iiv=0.3),
        parameter("MTT", 110.0, iiv=0.1),
        parameter("gamma", 0.17),
    ],
    {"concentration": residual.proportional(0.2), "neutrophils": residual.combined(0.1, 0.2)},
)


@pytest.mark.long
def test_counts_come_back_from_nonmem_text(tmp_path):
    days = [24.0, 120.0, 240.0, 336.0, 504.0]
    data = data_set(
        ["concentration", "neutrophils"], days, [[1.0] * 5, [4.0] * 5], [(0.0, 400.0, 200.0, 1)]
    )
    path = export_model(MARROW, tmp_path / "marrow.mod", data=data)
    random = np.array([[0.2, -0.1, 0.05], [-0.3, 0.2, -0.1]])
    ours = predictions(MARROW, data, random)
    _, theirs = read_back(path, random)
    # the reader chooses steps for 1e-5 at the typical parameters
    np.testing.assert_allclose(theirs, ours, rtol=1e-4)
    tight = individual_predictions(path, random)
    np.testing.assert_allclose(theirs, tight, rtol=1e-4, atol=1e-10)
    np.testing.assert_allclose(ours, tight, rtol=1e-7, atol=1e-10)


def python_of(text, block_start, block_end):
    """Statements of a block of mrgsolve or rxode2 without IF, as Python."""
    body = text[text.index(block_start) + len(block_start) : text.index(block_end)]
    body = body.replace("double ", "").replace(";", "").replace("^", "**").replace("std::", "")
    return [line.strip() for line in body.splitlines() if "=" in line]


def run(lines, values):
    """Carry out assignments; ``d/dt(x)`` and ``x(0)`` become names."""
    known = {"exp": np.exp, "log": np.log, "pow": np.power, "max": max, "sqrt": np.sqrt, **values}
    for line in lines:
        target, value = line.split("=", 1)
        target = re.sub(r"\W", "_", target.strip())
        known[target] = eval(value, {}, known)
    return known


@pytest.mark.parametrize(
    ("program", "start", "end", "of"),
    [
        ("mrgsolve", "[MAIN]", "[TABLE]", "dxdt_{}"),
        ("rxode2", "model({", "concentration ~", "d_dt_{}_"),
    ],
)
def test_the_text_of_simulators_gives_the_slopes(tmp_path, program, start, end, of):
    text = export_model(MARROW, tmp_path / "model.txt", program).read_text()
    lines = python_of(text, start, end)
    lines = [
        line.replace("ETA(1)", "0.1").replace("ETA(2)", "-0.2").replace("ETA(3)", "0.05")
        for line in lines
    ]
    equations = equations_of(MARROW.structure)
    states = equations.compartments
    y = np.random.default_rng(2).uniform(0.4, 1.5, len(states))
    typical = {p.name: p.typical.value for p in MARROW.parameters}
    given = {f"tv_{k}": v for k, v in typical.items()} | dict(zip(states, y, strict=True))
    given |= {"eta_CL": 0.1, "eta_circ0": -0.2, "eta_MTT": 0.05, "SOLVERTIME": 0.0}
    found = run(lines, given)
    own = {
        k: v * np.exp({"CL": 0.1, "circ0": -0.2, "MTT": 0.05}.get(k, 0.0))
        for k, v in typical.items()
    }
    expected = equations.slopes(0.0, tuple(jnp.asarray(v) for v in y), own)
    for state, slope in zip(states, expected, strict=True):
        assert found[of.format(state)] == pytest.approx(float(slope), rel=1e-12)


def test_covariates_of_mrgsolve_begin_where_they_have_no_effect(tmp_path):
    """The text's [MAIN] at its own [PARAM] gives the typical values of the model."""
    text = export_model(PK, tmp_path / "model.cpp", "mrgsolve").read_text()
    given = run([line.split("//")[0] for line in python_of(text, "[PARAM]", "[CMT]")], {})
    assert (given["WT"], given["AGE"], given["SEX"]) == (70.0, 50.0, 0.0)
    assert "WT = 70.0 // centre of its effect" in text
    main = text[: text.index("F_") if "F_" in text else text.index("ALAG_")]
    main = re.sub(r"if\(.*?\{\n.*?\n\}( else \{\n.*?\n\})?", "", main, flags=re.DOTALL)
    lines = [re.sub(r"ETA\(\d\)", "0.0", one) for one in python_of(main + "|", "[MAIN]", "|")]
    found = run(lines, given)
    for one in PK.parameters:
        assert found[one.name] == pytest.approx(one.typical.value, rel=1e-12), one.name


def test_a_covariate_of_mrgsolve_without_a_centre_is_that_of_the_data(tmp_path):
    parts = [from_column("CL", "CLI"), parameter("V", 20.0, effects=covariate.category("SEX", 0))]
    model = PopulationModel(compartments(1), parts, residual.additive(0.2))
    known = {"CLI": [2.0, 3.0], "SEX": [0.0, 2.0]}
    data = data_set(["concentration"], [1.0], [[2.0]], [(0.0, 100.0, 0.0, 1)], known)
    text = export_model(model, tmp_path / "a.cpp", "mrgsolve", data=data).read_text()
    assert "CLI = 2.5 // median of the data\n" in text
    assert "SEX = 2.0 // category without an effect\n" in text
    text = export_model(model, tmp_path / "a.cpp", "mrgsolve").read_text()
    assert "CLI = 0.0 // no default: give it with the data\n" in text
    assert "SEX = 1.0 // category without an effect\n" in text


def test_a_stream_without_data_is_ready_for_values_below_a_limit(tmp_path):
    given = [(0.0, 100.0, 0.0, 1)]
    data = data_set(["concentration"], TIMES, [[1.0, 2.0, 2.0, 1.0, 0.3]], given, WT)
    censored = data.observations.censored.copy()
    censored[-1] = 1
    below = dataclasses.replace(
        data, observations=dataclasses.replace(data.observations, censored=censored)
    )
    for known, asked in ((None, True), (data, False), (below, True)):
        text = export_model(PK, tmp_path / "a.mod", data=known).read_text()
        assert "F_FLAG = 1" in text
        assert (" LAPLACIAN\n" in text) == asked


def test_fixed_effects_have_the_same_bounds_everywhere(tmp_path):
    model = PopulationModel(
        compartments(1, dosing=("F1", "ALAG1")),
        [
            parameter("CL", 3.0, iiv=0.3, effects=covariate.power("WT", 70)),
            parameter("V", 20.0),
            parameter("F1", 0.7, scale="logit", bounds=(0.1, 0.9)),
            parameter("ALAG1", 0.2, scale="identity"),
        ],
        residual.additive(0.2),
    )
    theirs = {
        "CL": "0.0, 3.0", "V": "0.0, 20.0", "F1": "0.1, 0.7, 0.9", "ALAG1": "0.2", "CL_WT": "0.0",
        "sigma_concentration": "0.0, 0.2",
    }  # fmt: skip
    text = export_model(model, tmp_path / "a.mod").read_text()
    assert dict(re.findall(r"THETA \((.*)\) ; (\w+)", text)) == {v: k for k, v in theirs.items()}
    for program in ("nlmixr2", "rxode2"):
        text = export_model(model, tmp_path / "a.R", program).read_text()
        found = dict(
            re.findall(r"^    (?:tv_)?(\w+) <- (?:c\()?([-\d., ]+)\)?$", text, re.MULTILINE)
        )
        assert found == theirs


def steps(v):
    """Operations of many kinds, and conditions."""
    x, y = v["x"], v["y"]
    late = jnp.where((x > 1.0) & ~(y < 0.5), jnp.log1p(x * x), jnp.expm1(-y))
    both = jnp.stack([x, y, late])
    return [
        jnp.sum(both) / jnp.sqrt(y),
        jnp.maximum(x, y) ** 1.5,
        jnp.where(x >= y, x**3, late) - both[2],
        (x > 1.0) * y + 0.5,
    ]


@pytest.mark.parametrize("x", [0.3, 1.7])
@pytest.mark.parametrize("y", [0.2, 0.9, 2.5])
def test_statements_say_what_the_function_does(x, y):
    into = Statements("Z")
    found = trace(steps, {"x": Name("X"), "y": Name("Y")}, into, "steps")
    text = NONMEM.statements(into.lines) + [
        f"R{i} = {NONMEM.expression(e)}" for i, e in enumerate(found)
    ]
    record = Record("PRED", tuple(Line(i, line) for i, line in enumerate(text)), "text")
    run_ = Evaluator({"X": x, "Y": y})
    run_.run(parse_code(record).statements)
    for i, value in enumerate(steps({"x": jnp.asarray(x), "y": jnp.asarray(y)})):
        assert float(run_.values[f"R{i}"]) == pytest.approx(float(value), rel=1e-12)


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_the_cpp_of_conditions_compiles_and_agrees(tmp_path):
    into = Statements("z")
    found = trace(steps, {"x": Name("x"), "y": Name("y")}, into, "steps")
    body = MRGSOLVE.statements(into.lines)
    body += [f'printf("%.17g\\n", {MRGSOLVE.expression(e)});' for e in found]
    head = "#include <cmath>\n#include <cstdio>\n#include <algorithm>\nusing namespace std;\n"
    source = tmp_path / "a.cpp"
    source.write_text(
        head + "int main(){double x=1.7, y=0.9;\n" + "\n".join(body) + "\nreturn 0;}\n"
    )
    subprocess.run(["g++", str(source), "-o", str(tmp_path / "a")], check=True)
    out = subprocess.run([str(tmp_path / "a")], capture_output=True, text=True, check=True).stdout
    expected = [float(v) for v in steps({"x": jnp.asarray(1.7), "y": jnp.asarray(0.9)})]
    np.testing.assert_allclose([float(v) for v in out.split()], expected, rtol=1e-12)


def test_blocks_of_r_have_braces():
    into = Statements("z")
    trace(lambda v: [jnp.where(v["x"] > 1.0, v["x"], 2.0)], {"x": Name("x")}, into, "one")
    assert RXODE2.statements(into.lines) == [
        "if (x > 1.0) {",
        "  z1 = x",
        "} else {",
        "  z1 = 2.0",
        "}",
    ]


@pytest.mark.parametrize(
    ("program", "name"),
    [("nonmem", "Body weight"), ("nonmem", "T"), ("mrgsolve", "kg/m2"), ("rxode2", "lag")],
)
def test_covariates_whose_names_mean_something_else_are_refused(tmp_path, program, name):
    """A space made two columns of one in $INPUT, so that later ones were read as others."""
    effect = covariate.power(name, 70.0, 0.75)
    model = PopulationModel(
        compartments(1),
        [parameter("CL", 2.0, effects=effect), parameter("V", 20.0)],
        residual.additive(0.1),
    )
    with pytest.raises(PkpdError, match=f"covariate '{name}': is no name for"):
        export_model(model, tmp_path / "a.txt", program)


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("nonmem", ("DADT(1) = T_*(Y0 - A(1))", "A_0(1) = Y0", "E11 = A(1)/Y0")),
        ("mrgsolve", ("dxdt_R_ = t_*(y0_ - R_)", "R__0 = y0_", "response = R_/y0_")),
        ("rxode2", ("d/dt(R_) = t_*(y0_ - R_)", "R_(0) = y0_", "response = R_/y0_")),
        ("nlmixr2", ("d/dt(R_) = t_*(y0_ - R_)", "R_(0) = y0_", "response = R_/y0_")),
    ],
)
def test_parameters_called_as_time_or_a_state_keep_their_values(tmp_path, program, expected):
    """Time was written for the parameter t, and the first state for y0: a slope of 0."""
    structure = ode_model(
        lambda t, y, p: {"R": p["t"] * (p["y0"] - y["R"])},
        states=["R"],
        parameters=["t", "y0"],
        outputs={"response": lambda y, p: y["R"] / p["y0"]},
        initial=lambda p: {"R": p["y0"]},
    )
    own = [parameter("t", 0.1), parameter("y0", 20.0)]
    model = PopulationModel(structure, own, residual.additive(1.0))
    text = export_model(model, tmp_path / "a.txt", program).read_text()
    for statement in expected:
        assert statement in text


def test_what_the_language_lacks_is_refused(tmp_path):
    student = PK.replace(residual=residual.additive(0.5, nu=4.0))
    with pytest.raises(PkpdError, match="Student's t"):
        export_model(student, tmp_path / "a.mod")
    odd = ode_model(
        lambda t, y, p: {"x": -jnp.arccosh(1.0 + p["k"] * y["x"])},
        states=["x"],
        parameters=["k"],
        outputs={"x": lambda y, p: y["x"]},
    )
    with pytest.raises(PkpdError, match="no counterpart"):
        export_model(
            PopulationModel(odd, [parameter("k", 0.1)], residual.additive(1.0)), tmp_path / "b.mod"
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", [int, bool])
def test_a_number_made_whole_is_refused_as_its_floor_is(kind):
    """The text had the number itself: 1.7 in place of 1."""
    given = {"x": Name("X")}
    with pytest.raises(PkpdError, match=r"'convert_element_type to .*has no counterpart"):
        trace(lambda v: [v["x"].astype(kind) * 2.0], given, Statements("Z"), "one")
    with pytest.raises(PkpdError, match="'floor' has no counterpart"):
        trace(lambda v: [jnp.floor(v["x"])], given, Statements("Z"), "one")
    (same,) = trace(lambda v: [v["x"].astype(jnp.float32)], given, Statements("Z"), "one")
    assert same == Name("X")
    (same,) = trace(lambda v: [v["x"] * jnp.asarray(1).astype(float)], given, Statements("Z"), "")
    assert same == Name("X")


def random_effects(*, cl=0.3, v=0.2, ka=0.5, **partial):
    """Three parameters, two or three of them correlated."""
    return PopulationModel(
        compartments(1, absorption="first_order"),
        [parameter("ka", 0.9, iiv=ka), parameter("CL", 3.0, iiv=cl), parameter("V", 20.0, iiv=v)],
        residual.additive(0.5),
        correlated=[("CL", "V", "ka") if len(partial) == 3 else ("CL", "V")],
        partial=partial,
    )


def omegas(model, folder, program="nonmem"):
    """Lines of the text about random effects."""
    lines = export_model(model, folder / "a.txt", program).read_text().splitlines()
    if program == "nonmem":
        first = next(i for i, line in enumerate(lines) if line.startswith("$OMEGA"))
        last = next(i for i, line in enumerate(lines) if line.startswith("$SIGMA"))
        return [line.partition(" ;")[0].strip() for line in lines[first:last]]
    return [line.strip() for line in lines if "~" in line and "eta_" in line]


def test_a_correlation_that_starts_from_zero_is_estimated_elsewhere(tmp_path):
    free = random_effects()
    assert omegas(free, tmp_path)[:2] == ["$OMEGA BLOCK(2)", "0.09"]
    assert float(omegas(free, tmp_path)[2].split()[0]) == pytest.approx(0.1 * 0.3 * 0.2)
    told = "; 0.1 for each correlation that starts from 0 in the model: NONMEM holds 0"
    assert told in export_model(free, tmp_path / "a.mod").read_text()
    assert omegas(free, tmp_path, "nlmixr2")[0].startswith("eta_CL + eta_V ~ c(0.09, 0.006")
    text = export_model(free, tmp_path / "a.R", "nlmixr2").read_text()
    assert "# a correlation that starts from 0 in the model starts from 0.1 here" in text
    # a simulator draws from what the model says
    assert omegas(free, tmp_path, "rxode2")[0].startswith("eta_CL + eta_V ~ c(0.09, 0.0, 0.04")
    assert "\n0.09\n0.0 0.04" in export_model(free, tmp_path / "a.cpp", "mrgsolve").read_text()
    started = random_effects(partial_CL_V=0.4)
    assert float(omegas(started, tmp_path)[2].split()[0]) == pytest.approx(0.024)
    assert told not in export_model(started, tmp_path / "b.mod").read_text()


def test_what_is_held_of_random_effects_is_held_elsewhere(tmp_path):
    alone = random_effects(ka=fixed(0.5))
    assert omegas(alone, tmp_path)[-1] == "$OMEGA 0.25 FIX"
    assert omegas(alone, tmp_path, "nlmixr2")[-1] == "eta_ka ~ fix(0.25)"
    whole = random_effects(cl=fixed(0.3), v=fixed(0.2), partial_CL_V=fixed(0.5))
    assert omegas(whole, tmp_path)[0] == "$OMEGA BLOCK(2) FIX"
    assert omegas(whole, tmp_path, "nlmixr2")[0].startswith("eta_CL + eta_V ~ fix(c(0.09, 0.03,")
    none = random_effects(cl=fixed(0.3), partial_CL_V=fixed(0.0))
    assert omegas(none, tmp_path)[:2] == ["$OMEGA 0.09 FIX", "$OMEGA 0.04000000000000001"]
    for part in (
        random_effects(cl=fixed(0.3)),
        random_effects(partial_CL_V=fixed(0.5)),
        random_effects(cl=fixed(0.3), v=fixed(0.2)),
    ):
        assert "fix" not in omegas(part, tmp_path, "rxode2")[0]
        for program in ("nonmem", "nlmixr2"):
            with pytest.raises(PkpdError, match="CL, V: part of their covariance is held"):
                export_model(part, tmp_path / "c.txt", program)


def test_a_band_is_held_where_the_program_knows_it(tmp_path):
    band = random_effects(partial_CL_V=0.4, partial_CL_ka=fixed(0.0), partial_V_ka=0.0)
    assert omegas(band, tmp_path)[0] == "$OMEGA BLOCK(3)"
    outer, inner, _ = map(float, omegas(band, tmp_path)[3].split())
    assert outer == 0.0
    assert inner == pytest.approx(0.1 * np.sqrt(1 - 0.4**2) * 0.2 * 0.5)
    with pytest.raises(PkpdError, match="nlmixr2 holds a block as a whole"):
        export_model(band, tmp_path / "c.R", "nlmixr2")
    other = random_effects(partial_CL_V=0.4, partial_CL_ka=0.1, partial_V_ka=fixed(0.0))
    with pytest.raises(PkpdError, match="NONMEM holds a block as a whole"):
        export_model(other, tmp_path / "c.mod")


@pytest.mark.parametrize("error", [residual.additive(0.5), residual.lognormal(0.3)])
@pytest.mark.slow
def test_values_between_limits_have_the_likelihood_of_the_model(tmp_path, error):
    model = PopulationModel(
        compartments(1), [parameter("CL", 3.0, iiv=0.3), parameter("V", 20.0)], error
    )
    data = data_set(["concentration"], TIMES, [[4.0, 5.0, 1.0, 0.8, 0.5]], [(0.0, 100.0, 0.0, 1)])
    seen = data.observations
    # measured; above; below (M3); between 0 and a limit (M4); between two others
    codes, lower = np.array([0, -1, 1, 1, 1] * 2), np.array([-np.inf] * 3 + [0.0, 0.2])
    seen = dataclasses.replace(seen, censored=codes, lower=np.tile(lower, 2))
    data = dataclasses.replace(data, observations=seen)
    text = export_model(model, tmp_path / "a.mod", data=data).read_text()
    assert "Y = PHI((DV - IPRED)/W) - PHI((LIMIT - IPRED)/W)" in text
    stream = pkpd.read_control_stream(tmp_path / "a.mod")
    found, random = [], np.array([[0.2], [-0.1]])
    for one, records in ((model, data), (stream.model, stream.data)):
        likelihood = bind(one, records)
        fixed_ = likelihood.fixed(start_values(one))
        found.append(np.asarray(likelihood.by_observation(fixed_, jnp.asarray(random))))
    ours, theirs = found
    if error.logarithmic:  # densities of logarithms
        ours = ours + np.where(codes == 0, np.log(seen.value), 0.0)
    np.testing.assert_allclose(theirs, ours, rtol=1e-6)
    with pytest.raises(PkpdError, match="which nlmixr2 fits otherwise"):
        export_model(model, tmp_path / "a.R", "nlmixr2", data=data)
    # a logarithm has no limit of 0: such values are below the limit of quantification alone (M3)
    of_zero = dataclasses.replace(seen, lower=np.where(seen.lower == 0.2, 0.0, seen.lower))
    of_zero = dataclasses.replace(data, observations=of_zero)
    if error.logarithmic:
        assert (
            "model({" in export_model(model, tmp_path / "a.R", "nlmixr2", data=of_zero).read_text()
        )
    else:
        with pytest.raises(PkpdError, match="which nlmixr2 fits otherwise"):
            export_model(model, tmp_path / "a.R", "nlmixr2", data=of_zero)


FORWARD = EventOptions(carry="forward")
BY_WEIGHT = [parameter("CL", 3.0, effects=covariate.allometric()), parameter("V", 20.0)]


def by_equations(options):
    return ode_model(
        lambda t, y, p: {"drug": -p["CL"] / p["V"] * y["drug"]},
        states=["drug"],
        parameters=["CL", "V"],
        outputs={"concentration": lambda y, p: y["drug"] / p["V"]},
        events=options,
    )


@pytest.mark.parametrize(
    "structure",
    [
        lambda o: compartments(1, options=o),
        by_equations,
        lambda o: marrow_model(compartments(1, options=o), effect="emax", engine="general"),
    ],
)
def test_covariates_that_are_carried_forward(tmp_path, structure):
    more = [p for p in MARROW.parameters if p.name not in ("CL", "V")]
    marrow = structure(FORWARD).parameters != ("CL", "V")
    errors = MARROW.residual if marrow else residual.additive(0.5)
    parameters = BY_WEIGHT + (more if marrow else [])
    forward, backward = (
        PopulationModel(structure(options), parameters, errors)
        for options in (FORWARD, EventOptions())
    )
    data = data_set(["concentration"], TIMES, [[2.0] * 5], [(0.0, 100.0, 0.0, 1)], {"WT": [60, 85]})
    grown = dict(data.covariates)
    grown["WT"] = grown["WT"] + np.arange(6)
    grown = dataclasses.replace(data, covariates=grown)
    for program in ("nonmem", "mrgsolve"):
        for name, given in (("a.txt", grown), ("b.txt", None)):
            export_model(backward, tmp_path / name, program, data=given)
            with pytest.raises(PkpdError, match=r"WT: carry=.forward. takes .* begins at"):
                export_model(forward, tmp_path / name, program, data=given)
        export_model(forward, tmp_path / "a.txt", program, data=data)
    assert "    nocb(WT)\n" in export_model(backward, tmp_path / "a.R", "nlmixr2").read_text()
    assert "    locf(WT)\n" in export_model(forward, tmp_path / "a.R", "rxode2").read_text()


def test_lines_of_the_data_are_written_as_the_model_names_and_numbers_them(tmp_path):
    doses = [(0.0, 400.0, 200.0, 1)]
    both = data_set(["neutrophils", "concentration"], TIMES, [[4.0] * 5, [2.0] * 5], doses)
    export_model(MARROW, tmp_path / "a.mod", data=both)
    written = pd.read_csv(tmp_path / "a.csv").query("EVID == 0")
    assert set(zip(written.LINE, written.DV, strict=True)) == {(1, 2.0), (2, 4.0)}
    one = PopulationModel(compartments(1), BY_WEIGHT, residual.lognormal(0.3))
    unnamed = data_set(["DV"], TIMES, [[2.0] * 5], doses, {"WT": [60.0, 85.0]})
    assert "IPRED = LOG(" in export_model(one, tmp_path / "b.mod", data=unnamed).read_text()
    written = pd.read_csv(tmp_path / "b.csv").query("EVID == 0")
    np.testing.assert_allclose(written.DV, np.log(2.0))


def test_no_parameter_has_the_name_of_an_intermediate_value():
    for prefix in ("PK", "DE", "E2", "m_", "d_", "o_"):
        name = Statements(prefix).fresh()
        for capitals in (True, False):
            found = plain_names([name, f"{name}_"], [], capitals=capitals)
            assert name.upper() not in {one.upper() for one in found.values()}
            assert len(set(found.values())) == 2
    assert plain_names(["E1", "D1", "M1", "PK"], [], capitals=True)["D1"] == "D1"
    # where the names that come to mind are all taken
    assert plain_names(["E1", "e1", "E.1", "e1_"], [], capitals=True) == {
        "E1": "E1", "e1": "E1_", "E.1": "E_1", "e1_": "E1__"
    }  # fmt: skip
    three = plain_names(["pk", "Pk", "PK", "m_1", "M_1", "M.1"], [], capitals=True)
    assert len(set(three.values())) == 6


def test_doses_of_other_numbers_enter_the_compartments_of_the_text(tmp_path):
    """Compartment 10 of the data is that of the second drug, which the text has as its second."""
    pair = {"a": compartments(1), "b": compartments(1)}
    names = ("CL_a", "V_a", "CL_b", "V_b", "slope_a", "slope_b", "circ0", "MTT", "gamma")
    model = PopulationModel(
        marrow_model(pair, first_compartment={"a": 1, "b": 10}),
        [parameter(name, 1.0) for name in names],
        {"neutrophils": residual.additive(0.1)},
    )
    doses = [(0.0, 100.0, 0.0, 1), (0.0, 50.0, 0.0, 10)]
    data = data_set(["neutrophils"], [24.0], [[4.0]], doses)
    text = export_model(model, tmp_path / "a.mod", data=data).read_text()
    assert "COMP=(C2) ; central_b" in text
    written = pd.read_csv(tmp_path / "a.csv").query("ID == 1")
    assert list(zip(written.AMT, written.CMT, strict=True)) == [(100, 1), (50, 2), (0, 0)]


def test_a_line_without_an_error_is_not_written_as_one_of_deviation_1(tmp_path):
    model = MARROW.replace(residual={"neutrophils": residual.additive(0.2)})
    data = data_set(["concentration"], TIMES, [[2.0] * 5], [(0.0, 400.0, 200.0, 1)])
    with pytest.raises(PkpdError, match="line 'concentration': is observed and has no residual"):
        export_model(model, tmp_path / "a.mod", data=data)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shape", [0.0, 0.5])
def test_a_shape_of_zero_is_the_normal_distribution(tmp_path, shape):
    """The transformed effect is (exp(shape eta) - 1) / shape, and eta where the shape is 0."""
    model = PopulationModel(
        compartments(1),
        [parameter("CL", 3.0, iiv=0.3, boxcox=shape), parameter("V", 20.0)],
        residual.additive(0.1),
    )
    text = export_model(model, tmp_path / "a.mod").read_text()
    block = text[text.index("$PK\n") + 4 : text.index("$DES")].splitlines()
    record = Record("PK", tuple(Line(i, line) for i, line in enumerate(block)), "text")
    at = {"THETA(1)": 3.0, "THETA(2)": 20.0, "THETA(3)": shape, "ETA(1)": 0.4}
    run_ = Evaluator(at)
    run_.run(parse_code(record).statements)
    moved = 0.4 if shape == 0 else np.expm1(0.4 * shape) / shape
    assert float(run_.values["CL"]) == pytest.approx(3.0 * np.exp(moved), rel=1e-12)


@pytest.mark.parametrize(("program", "mark"), [("mrgsolve", "//"), ("rxode2", "#")])
@pytest.mark.parametrize("into", ["central", "effect"])
def test_programs_that_dose_the_first_compartment_are_told_of_another(
    tmp_path, program, mark, into
):
    structure = ode_model(
        lambda t, y, p: {"effect": -p["k"] * y["effect"], "central": -p["k"] * y["central"]},
        states=["effect", "central"],
        parameters=["k"],
        doses_into=into,
        outputs={"concentration": lambda y, p: y["central"]},
    )
    model = PopulationModel(structure, [parameter("k", 0.1)], residual.additive(1.0))
    text = export_model(model, tmp_path / "a.txt", program).read_text()
    told = f"{mark} doses go into compartment 2, central: give them CMT 2"
    assert (told in text) == (into == "central")
