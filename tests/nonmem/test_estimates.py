"""Starting values, bounds and blocks in all their spellings."""

from __future__ import annotations

import numpy as np
import pytest

from pkpd.errors import PkpdError
from pkpd.fitting.model.population_parameters import RandomEffects, held, start_values
from pkpd.nonmem.effects import effects, partial_correlations
from pkpd.nonmem.estimates import read_blocks, read_thetas
from pkpd.nonmem.records import Line, Record
from pkpd.nonmem.steps import read_steps


def record(name, *lines):
    return Record(name, tuple(Line(i, text, "") for i, text in enumerate(lines, 1)), "run.mod")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("3", (-1e6, 3.0, 1e6, False)),
        ("3 FIX", (-1e6, 3.0, 1e6, True)),
        ("(0, 3)", (0.0, 3.0, 1e6, False)),
        ("(0 3 9)", (0.0, 3.0, 9.0, False)),
        ("(0,3,INF)", (0.0, 3.0, 1e6, False)),
        ("(-INF,.5,1.D1)", (-1e6, 0.5, 10.0, False)),
        ("(0,3,)", (0.0, 3.0, 1e6, False)),
        ("(3 FIXED)", (-1e6, 3.0, 1e6, True)),
        ("(0,3) FIX", (0.0, 3.0, 1e6, True)),
        ("CL = (0,3)", (0.0, 3.0, 1e6, False)),
    ],
)
def test_a_fixed_effect_in_its_spellings(text, wanted):
    (found,) = read_thetas([record("THETA", text)])
    assert (found.low, found.value, found.high, found.held) == wanted


def test_repetitions_and_several_on_a_line():
    found = read_thetas([record("THETA", "(0,1)x3 2", "5 FIX")])
    assert [t.value for t in found] == [1.0, 1.0, 1.0, 2.0, 5.0]


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        (["0.09 0.04"], np.diag([0.09, 0.04])),
        (["DIAGONAL(2) 0.09 (0.2 SD)"], np.diag([0.09, 0.04])),
        (["(0.3 STANDARD) 0.04 FIX"], np.diag([0.09, 0.04])),
        (["BLOCK(2) 0.09", "0.01 0.04"], [[0.09, 0.01], [0.01, 0.04]]),
        (["BLOCK(2) SD CORRELATION 0.3 0.5 0.2"], [[0.09, 0.03], [0.03, 0.04]]),
        (["BLOCK(2) CHOLESKY 0.3 0.1 0.2"], [[0.09, 0.03], [0.03, 0.05]]),
        (["BLOCK(2) VALUES(0.09,0.01)"], [[0.09, 0.01], [0.01, 0.09]]),
    ],
)
def test_blocks_in_their_spellings(lines, wanted):
    blocks = read_blocks([record("OMEGA", *lines)])
    size = sum(b.size for b in blocks)
    found, at = np.zeros((size, size)), 0
    for block in blocks:
        found[at : at + block.size, at : at + block.size] = block.covariance
        at += block.size
    np.testing.assert_allclose(found, wanted, atol=1e-15)


@pytest.mark.parametrize(
    ("text", "word", "remedy"),
    [
        ("SD 0.3 0.2", "SD", "(0.3 SD) (0.2 SD)"),
        ("standard 0.3", "standard", "(0.3 standard)"),
        ("DIAGONAL(2) FIX 0.3 0.2", "FIX", "(0.3 FIX) (0.2 FIX)"),
        ("FIXED DIAGONAL(1) 0.3", "FIXED", "(0.3 FIXED)"),
        ("DIAGONAL(2) CHOLESKY 0.3 0.2", "CHOLESKY", "(0.3 CHOLESKY)"),
        ("CORRELATION 0.3", "CORRELATION", "(0.3 CORRELATION)"),
    ],
)
@pytest.mark.parametrize("name", ["OMEGA", "SIGMA"])
def test_an_option_before_the_values_of_a_diagonal_is_refused(name, text, word, remedy):
    with pytest.raises(PkpdError) as found:
        read_blocks([record(name, text)])
    assert f"{word} stands before the values of a diagonal" in str(found.value)
    assert remedy in str(found.value)


def test_options_before_the_values_of_a_block_are_of_all_of_them():
    (block,) = read_blocks([record("OMEGA", "FIX STANDARD BLOCK(2) 0.3 0.01 0.2")])
    np.testing.assert_allclose(block.covariance, [[0.09, 0.01], [0.01, 0.04]])
    assert block.held
    (usual,) = read_blocks([record("OMEGA", "VARIANCE 0.3")])
    assert usual.covariance == 0.3


@pytest.mark.parametrize(
    ("text", "count"), [("DIAGONAL(3) 0.3 0.2", "2 values"), ("DIAGONAL(2) 1", "1 value")]
)
def test_a_diagonal_has_as_many_values_as_it_says(text, count):
    with pytest.raises(PkpdError, match=rf"DIAGONAL\(\d\) has {count}; allowed"):
        read_blocks([record("OMEGA", text)])


def test_same_repeats_a_block_and_its_effects_are_scaled_alike():
    texts = ["0.25", "BLOCK(2) 0.09 0.01 0.04", "BLOCK(2) SAME(2)", "BLOCK(1) 0.5 FIX"]
    blocks = read_blocks([record("OMEGA", text) for text in texts])
    assert [(b.size, b.same, b.held) for b in blocks] == [
        (1, False, False), (2, False, False), (2, True, False), (2, True, False), (1, False, True)
    ]  # fmt: skip
    made = effects([], blocks, [])
    rng = np.random.default_rng(1)
    z = rng.standard_normal((6, 200_000))
    values = {p.name: p.typical.value for p in made.parameters}
    values |= {f"ETA{i + 2}": z[i] for i in range(6)}
    etas = np.array([np.asarray(made.made[f"ETA({i})"](values)) for i in range(2, 8)])
    block = [[0.09, 0.01], [0.01, 0.04]]
    np.testing.assert_allclose(np.cov(etas), np.kron(np.eye(3), block), atol=1.5e-3)


def test_partial_correlations_give_the_block_back():
    covariance = np.array([[0.25, 0.2, -0.1], [0.2, 0.36, 0.05], [-0.1, 0.05, 0.49]])
    blocks = read_blocks([record("OMEGA", "BLOCK(3) 0.25 0.2 0.36 -0.1 0.05 0.49")])
    from pkpd.nonmem.program import Program
    from pkpd.nonmem.values import population_model

    program = Program("x", None, None, None, None, (), tuple(blocks), (), ())
    model = population_model(program)
    found = RandomEffects(model, 0).covariance(start_values(model), np)
    np.testing.assert_allclose(found, covariance, rtol=1e-9)
    assert partial_correlations(covariance)[0] == pytest.approx(0.2 / 0.3, rel=1e-9)


def test_zeros_of_a_band_matrix_are_held():
    from pkpd.nonmem.program import Program
    from pkpd.nonmem.values import population_model

    texts = ["BLOCK(3) 0.36 0.02 0.09 0 0.01 0.0225", "BLOCK(2) 0.09 0 0.04", "BLOCK(2) FIX 1 0 1"]
    blocks = read_blocks([record("OMEGA", text) for text in texts])
    model = population_model(Program("x", None, None, None, None, (), tuple(blocks), (), ()))
    free = {name for name in start_values(model) if name not in held(model)}
    assert free == {
        *(f"omega_ETA{i}" for i in range(1, 6)),
        "partial_ETA1_ETA2",
        "partial_ETA2_ETA3",
    }
    # whatever the free ones are, the zeros stay, and those within the band do not
    values = start_values(model) | {"partial_ETA1_ETA2": 0.7, "partial_ETA2_ETA3": -0.6}
    found = np.asarray(RandomEffects(model, 0).covariance(values, np))
    assert found[2, 0] == found[4, 3] == found[6, 5] == 0.0
    assert found[2, 1] == pytest.approx(-0.6 * np.sqrt(1 - 0.7**2) * 0.3 * 0.15)


def test_zeros_of_a_repeated_band_and_of_residuals_are_held():
    band = "BLOCK(3) 0.36 0.02 0.09 0 0.01 0.0225"
    omegas = read_blocks([record("OMEGA", band), record("OMEGA", "BLOCK(3) SAME")])
    sigmas = read_blocks([record("SIGMA", "BLOCK(2) 0.1 0 0.2")])
    made = {p.name: p for p in effects([], omegas, sigmas).parameters}
    correlations = {name: p.typical.fixed for name, p in made.items() if name.startswith("RHO")}
    assert correlations == {
        "RHO_ETA2_ETA1": False,
        "RHO_ETA3_ETA1": True,
        "RHO_ETA3_ETA2": False,
        "RHO_SIGMA2_SIGMA1": True,
    }
    assert made["RHO_ETA3_ETA1"].typical.value == 0.0


def test_a_bracket_left_open_at_the_end_of_a_record_is_told():
    told = []
    first, second, third = read_thetas(
        [record("THETA", "(0,0.00282"), record("THETA", "3 (0,4,9 FIX")], told
    )
    assert (first.low, first.value, first.bounded) == (0.0, 0.00282, (True, False))
    assert (second.value, third.value, third.high, third.held) == (3.0, 4.0, 9.0, True)
    assert len(told) == 2
    assert told[0].startswith("run.mod, line 1, $THETA: a bracket is not closed")
    for text, words in (("(", "ends too soon"), ("(0,1 (0,3)", "a bracket inside a bracket")):
        with pytest.raises(PkpdError, match=words):
            read_thetas([record("THETA", text)], told)


@pytest.mark.parametrize(
    ("name", "lines", "words"),
    [
        ("THETA", ["(0,,5)"], "without a starting value"),
        ("THETA", ["(2,1,5)"], "outside its bounds"),
        ("THETA", ["1 XYZ"], "'XYZ' is not understood"),
        ("OMEGA", ["0"], "a variance of 0"),
        ("OMEGA", ["BLOCK(2) 1 2"], "BLOCK(2) has 2 values"),
        ("OMEGA", ["BLOCK(2) 1 2 1"], "not positive definite"),
        ("OMEGA", ["BLOCK(2) 1 1.1 1"], "not positive definite"),
        ("OMEGA", ["BLOCK(2) 0.5 0.1 1E400"], "not positive definite"),
        ("OMEGA", ["BLOCK(2) 0.5 0 0"], "not positive definite"),
        ("OMEGA", ["BLOCK(2) 1E-300 1E300 1E-300"], "not positive definite"),
        (
            "OMEGA",
            ["BLOCK(3) 1 .1 1 .1 0 1"],
            "the covariance (3,2) of BLOCK(3) is 0 between others",
        ),
        (
            "SIGMA",
            ["BLOCK(3) 1 .1 1 .1 0 1"],
            "the covariance (3,2) of BLOCK(3) is 0 between others",
        ),
        ("OMEGA", ["1E400"], "a variance of inf"),
        ("OMEGA", ["BLOCK(2) SAME"], "SAME without a block"),
        ("OMEGA", ["BLOCK() 1"], "BLOCK with no number; allowed: one whole number from 1 to 1000"),
        ("OMEGA", [f"BLOCK({'9' * 400}) 1"], "BLOCK with inf"),
        ("OMEGA", ["BLOCK(100000) VALUES(1,0)"], "BLOCK with 100000"),
        ("OMEGA", ["BLOCK(2) VALUES(1)"], "VALUES has 1 numbers"),
        ("OMEGA", ["BLOCK(1) SAME(1.5)"], "SAME with 1.5"),
        ("OMEGA", ["(1)x1000000000"], "X1000000000 with 1e+09"),
        ("THETA", [f"(0,1,2)x{'9' * 5000}"], "with inf"),
        ("THETA", ["1 " * 1001], "more than 1000 effects of its kind"),
        ("THETA", ["(0,1)x600 (0,1)x600"], "more than 1000 effects of its kind"),
        ("OMEGA", ["1 " * 1001], "more than 1000 effects of its kind"),
    ],
)
def test_what_has_no_meaning_is_refused(name, lines, words):
    read = read_thetas if name == "THETA" else read_blocks
    with pytest.raises(PkpdError, match=r"run\.mod, line 1") as error:
        read([record(name, *lines)])
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("text", "method", "likelihood"),
    [
        ("METHOD=1 INTER", "focei", 0),
        ("METH=COND", "foce", 0),
        ("METHOD=0", "fo", 0),
        ("MAXEVAL=0", "fo", 0),
        ("METHOD=COND LAPLACE LIKE", "laplace-nointer", 1),
        ("METHOD=1 LAPLACIAN -2LL", "laplace-nointer", 2),
        ("METHOD=1 LAPLACIAN INTER", "laplace", 0),
        ("METHOD=SAEM NBURN=500", "", 0),
        ("METHOD=IMP EONLY=1", "", 0),
    ],
)
def test_steps_of_estimation(text, method, likelihood):
    (step,) = read_steps([record("ESTIMATION", text)])
    assert (step.method, step.likelihood) == (method, likelihood)


def test_correlations_of_one_are_read():
    (block,) = read_blocks([record("OMEGA", "BLOCK(2) 0.04 0.06 0.09")])
    assert partial_correlations(block.covariance)[0] == pytest.approx(1.0, abs=1e-4)
