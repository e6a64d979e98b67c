"""Options of $ESTIMATION and $SUBROUTINES: all of NONMEM's are read, another word is refused."""

from __future__ import annotations

import pytest

from pkpd.errors import PkpdError
from pkpd.nonmem.advan import read_compartments
from pkpd.nonmem.options import ESTIMATION, full_name, read_options
from pkpd.nonmem.prior import without_prior
from pkpd.nonmem.records import Line, Problem, Record
from pkpd.nonmem.steps import read_steps
from tests.nonmem.streams import ADVAN1, written


def record(name, *lines):
    return Record(name, tuple(Line(i, text) for i, text in enumerate(lines, start=3)), "run.mod")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("METHOD=1 INTERR", "INTERR is no option (did you mean 'INTERACTION'?)"),
        ("METHD=1 INTER", "METHD is no option (did you mean 'METHOD'?)"),
        ("METHOD=1 MAXEVL=99", "MAXEVL is no option (did you mean 'MAXEVALS'?)"),
        ("METHOD=1 NUTS_MAS=B NUTS_DELA=1", "NUTS_DELA is no option (did you mean 'NUTS_DELTA'?)"),
        ("METHOD 1 INTER", "1 is no option; write a value after its option and an equals sign"),
        ("METHOD=FOCEI", "METHOD=FOCEI; allowed: 0, ZERO, 1, CONDITIONAL, HYBRID, IMP"),
        ("METHOD=1 FO", "FO changes the objective"),
        ("METHOD=", "METHOD= has no value"),
        ("METHOD=1 +3", "'+3' is not understood"),
    ],
)
def test_a_word_that_is_no_option_of_an_estimation_is_refused(words, told):
    with pytest.raises(PkpdError) as error:
        read_steps([record("ESTIMATION", "PRINT=1", words)])
    assert f"run.mod, line 4, $ESTIMATION: {told}" in str(error.value)


def test_a_slip_is_refused_in_a_whole_stream(tmp_path):
    with pytest.raises(PkpdError, match=r"run1\.mod, line 14, \$ESTIMATION: INTERR is no option"):
        written(tmp_path, ADVAN1.replace("METHOD=1 INTER", "METHOD=1 INTERR"))


@pytest.mark.parametrize(
    ("words", "method"),
    [
        ("MET=1 INT SIG=2 MAX=0 NOAB NUM SLOW=2", "focei"),
        ("METHOD = COND, LAPLACE, INTER", "laplace"),
        ('METHOD=1 MSFO="a b" FILE=psn.ext FORMAT=,1PE13.6 GRID=(3,1,.6,.9)', "foce"),
        ("METHOD=1 GRD=TG(1-5):TS(6,7)D NOTITLE=1 ORDER=TOS -2LL LAP", "laplace-nointer"),
        ("METHOD=HYBRID ZERO=(1 2)", ""),
        ("METHOD=1 LAPLACIAN STIELTJES", ""),
        ("METHOD=BAYES AUTO=1 CTYPE=3 NUTS_MASS=BD OLKJDF=2 BAYES_PHI_STORE=1", ""),
    ],
)
def test_options_are_read_in_their_spellings(words, method):
    assert read_steps([record("ESTIMATION", *words.split("|"))])[0].method == method


def test_values_of_abbreviated_options_act():
    first, second = read_steps(
        [record("ESTIMATION", "METH=1 LIKE LAP NSIG=2 MAXEV = 0"), record("ESTIMATION", "PRED")]
    )
    assert (first.digits, first.evaluation, first.likelihood) == (2, True, 1)
    assert (second.digits, second.evaluation, second.likelihood) == (3, False, 0)
    problem = Problem("", [record("ESTIMATION", "METH=1 NOPRI=1")])
    assert without_prior(problem)


def test_the_first_letters_of_every_option_name_one():
    assert all(full_name(name[:n], ESTIMATION) for name in ESTIMATION for n in range(3, len(name)))
    assert [full_name(word, ESTIMATION) for word in ("SIG", "DF", "FO", "ME", "METHD")] == [
        *("SIGDIGITS", "DF", "FO", "", ""),
    ]
    options = read_options(record("ESTIMATION", "METHOD=1", "", "PRINT=5"), ESTIMATION)
    assert [(one.name, one.line) for one in options] == [("METHOD", 3), ("PRINT", 5)]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("ADVAN4 TRANS4 FOO=3", "FOO is no option"),
        ("ADVAN4 TRAN4", "TRAN4 is no option (did you mean 'TRANS'?)"),
        ("ADVAN4 TRANS=X", "TRANS=X; allowed: TRANS1 to TRANS6"),
        ("ADVAN4 PK=mine.f", "a routine of the user's own (PK=)"),
        ("ADVAN4 SS=mine.f", "a routine of the user's own (SS=)"),
        ("TRANS2 TOL=5", "names no ADVAN"),
    ],
)
def test_a_word_that_is_no_option_of_subroutines_is_refused(words, told):
    with pytest.raises(PkpdError) as error:
        read_compartments(Problem("", [record("SUBROUTINES", words)]))
    assert f"run.mod, line 3, $SUBROUTINES: {told}" in str(error.value)


@pytest.mark.parametrize(
    "words",
    [
        *("ADVAN4 TRANS4 TOL9 SS6", "ADVAN=ADVAN4,TRANS=TRANS4", "ADVAN=4 TRAN=4 SSTOL=5"),
        *("ADVAN 4 TRANS 4 TOL 5 ATOL=3 SSATOL 3", "advan4 trans4 tol = 5 subr=dp"),
    ],
)
def test_subroutines_are_read_in_their_spellings(words):
    found = read_compartments(Problem("", [record("SUBROUTINES", words)]))
    assert (found.advan, found.trans) == (4, 4)
