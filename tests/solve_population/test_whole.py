"""A whole marrow with exact kinetics: compiled march and adjoint against JAX and differences."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pkpd.errors import PkpdError
from pkpd.kinetics.linear import LinearPK
from pkpd.leukaemia.parameters import default_theta
from pkpd.leukaemia.patients import who
from pkpd.leukaemia.schedule import Arm, ArmSchedule
from pkpd.leukaemia.simulate import simulate
from pkpd.marrow.actions import DoseKill, MaturationBlock, SaturableKill
from pkpd.marrow.leukaemic import LeukaemicMarrow
from pkpd.schedule import daily
from pkpd.solve.grid.grid import Doses
from pkpd.solve.grid.structure import (
    DirectKill,
    Drug,
    Line,
    PopulationStructure,
    Whole,
)
from pkpd.solve.population.problem import prepare

LANES = 5
WHOLE = Whole(
    LeukaemicMarrow(injury=False, pegfilgrastim=False, care=False),
    (SaturableKill("clofarabine_"), MaturationBlock("lenalidomide_"), DoseKill("mec_")),
    ("neutrophils", "platelets", "marrow_blasts"),
)
STRUCTURE = PopulationStructure(
    (
        Drug("clo", LinearPK(None, 2, True, "umol/L")),
        Drug("len", LinearPK(3, 1, False, "umol/L")),
        Drug("mec", DirectKill()),
    ),
    whole=WHOLE,
)
# two schedules, the second with a gap of no length against the first
DOSES = Doses.of(
    [
        [(24.0 * d, 36.0, 1.0, 0) for d in range(3)]
        + [(24.0 * d, 10.0, 0.0, 1) for d in range(6, 10)],
        [(24.0 * d, 0.2, 24.0, 2) for d in range(2)] + [(120.0, 25.0, 0.0, 1)],
    ]
)
TIMES = np.array([[5.0, 24.0, 100.5, 216.0, 301.0], [0.0, 31.7, 96.0, 250.0, np.nan]])


def problem(engine="auto"):
    return prepare(
        STRUCTURE, DOSES, TIMES, schedule=np.array([0, 1, 0, 1, 0]), max_step_h=6.0, engine=engine
    )


def theta():
    given = daily("clofarabine", "20 mg/m^2", days="1-5", route="iv", duration="1 h").together(
        daily("lenalidomide", "10 mg", days="1-21", route="oral")
    )
    arm = Arm(name="x", disease="aml", schedule=ArmSchedule(given, 1))
    _, own = simulate(arm, default_theta(), who(arm, LANES, 1))
    own |= {"mec_intensity": np.full(LANES, 0.8)}
    spread = np.exp(0.2 * np.random.default_rng(3).standard_normal((20, LANES)))
    clo = {"CL": 30.0, "V1": 80.0, "Q": 20.0, "V2": 150.0, "k_in": 0.5, "k_out": 0.05,
           "per_umol": 3.3, "F": 1.0}  # fmt: skip
    len_ = {"CL": 12.0, "V1": 60.0, "KTR": 6.0, "per_umol": 3.9, "F": 0.9}
    values = {
        "pk": {
            "clo": {k: v * spread[i] for i, (k, v) in enumerate(clo.items())},
            "len": {k: v * spread[8 + i] for i, (k, v) in enumerate(len_.items())},
            "mec": {"F": np.ones(LANES)},
        },
        "marrow": {k: own[k] for k in WHOLE.parameters},
    }
    return problem().theta(values)


@pytest.mark.slow
def test_the_compiled_march_is_the_reference_to_rounding():
    rows = theta()
    compiled = np.asarray(problem().log_counts(rows))
    reference = np.asarray(problem("scan").log_counts(rows))
    assert problem().engine(LANES) == "compiled"
    missing = problem().missing(LANES)
    assert np.isnan(compiled[:, missing]).all()
    np.testing.assert_allclose(compiled[:, ~missing], reference[:, ~missing], rtol=0, atol=1e-10)


def likelihood_at(rows):
    """A problem with observations beside its counts: value, gradient, and what made them."""
    p = problem()
    missing = p.missing(LANES)
    found = np.asarray(p.log_counts(rows))
    observed = np.where(missing, 0.0, found + 0.3)
    weight = np.where(missing, 0.0, 4.0) * np.ones_like(found)
    return p, missing, observed, weight, *p.value_and_gradient(rows, observed, weight)


@pytest.mark.slow
def test_the_adjoint_is_the_derivative_by_differences():
    rows = theta()
    p, missing, observed, weight, value, gradient = likelihood_at(rows)
    for name in (("pk", "clo", "CL"), ("pk", "len", "F"), ("marrow", "rho"),
                 ("marrow", "clofarabine_hill"), ("marrow", "mec_intensity"),
                 ("marrow", "blasts_start")):  # fmt: skip
        row = STRUCTURE.row[name]
        step = 1e-5 * rows[row]

        def at(shift, row=row):
            moved = rows.copy()
            moved[row] += shift
            gap = np.where(missing, 0.0, observed - np.asarray(p.log_counts(moved)))
            return -0.5 * (weight * gap**2).sum(axis=(0, 2))

        difference = (8 * (at(step) - at(-step)) - (at(2 * step) - at(-2 * step))) / (12 * step)
        bound = 1e-6 * np.abs(difference) + 1e-7 * np.abs(value) / rows[row]
        assert (np.abs(gradient[row] - difference) <= bound).all(), name


@pytest.mark.long  # that by differences is above
def test_the_adjoint_is_the_derivative_by_jax():
    rows = theta()
    _, missing, observed, weight, value, gradient = likelihood_at(rows)
    q = problem("scan")

    def log_likelihood(t):
        gap = jnp.where(missing, 0.0, observed - q.log_counts(t))
        return -0.5 * (weight * gap**2).sum()

    by_jax = np.asarray(jax.grad(log_likelihood)(jnp.asarray(rows)))
    scale = np.abs(value) / np.abs(np.where(rows == 0, 1.0, rows))
    assert (np.abs(gradient - by_jax) <= 1e-8 * scale).all()


def test_a_structure_has_lines_or_a_whole_marrow_and_actions_that_fit():
    drugs = STRUCTURE.drugs
    with pytest.raises(PkpdError, match="lines and a whole marrow"):
        PopulationStructure(drugs, (Line("x", None, (None, None, None)),), WHOLE)
    with pytest.raises(PkpdError, match="2 actions for 3 drugs"):
        PopulationStructure(drugs, whole=Whole(WHOLE.marrow, WHOLE.actions[:2], ("platelets",)))
    swapped = Whole(WHOLE.marrow, WHOLE.actions[::-1], ("platelets",))
    with pytest.raises(PkpdError, match="action of clo: it is driven by a rate"):
        PopulationStructure(drugs, whole=swapped)
    with pytest.raises(PkpdError, match="'blasts' is not observed"):
        PopulationStructure(drugs, whole=Whole(WHOLE.marrow, WHOLE.actions, ("blasts",)))


def test_a_parameter_below_its_limit_is_named():
    rows = theta()
    rows[STRUCTURE.row["marrow", "rho"], 2] = -1.0
    found = np.asarray(problem().log_counts(rows))
    assert np.isnan(found[:, 2]).all()
    assert np.isfinite(found[:, 0]).all()
