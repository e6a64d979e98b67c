"""Patients of the marrow with leukaemia for tests, and a reference solution of its equations."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from scipy.integrate import solve_ivp

from pkpd.leukaemia.parameters import default_theta
from pkpd.leukaemia.patients import arm_patients, random_scores
from pkpd.leukaemia.schedule import Arm, ArmSchedule
from pkpd.marrow.variants import FULL


def parameters(n, disease="aml", variant=FULL, seed=1):
    """Parameters of ``n`` patients by name, float[n] each."""
    arm = Arm(name="x", disease=disease, schedule=ArmSchedule(None, 60))
    return arm_patients(arm, default_theta(), random_scores(n, seed, "x"), variant)[0]


def reference(marrow, p, inputs, days):
    """Observed quantities of one patient each morning, DOP853 at 1e-10.

    ``inputs(day)`` gives the inputs that hold on a day.
    """
    names = marrow.states
    p = {name: jnp.asarray(float(p[name])) for name in marrow.parameters}

    @jax.jit
    def slopes(y, u):
        found = marrow.derivative(dict(zip(names, y, strict=True)), p, u)
        return jnp.stack([jnp.asarray(found[name], jnp.float64) for name in names])

    y = np.array([float(v) for v in marrow.start(p).values()])
    mornings = []
    for day in range(days):
        seen = marrow.observe(dict(zip(names, y, strict=True)), p)
        mornings.append({k: float(v) for k, v in seen.items()})
        u = {k: jnp.asarray(v, jnp.float64) for k, v in inputs(day).items()}
        y = solve_ivp(
            lambda t, x, u=u: np.asarray(slopes(x, u)),
            (0.0, 1.0),
            y,
            method="DOP853",
            rtol=1e-10,
            atol=1e-14,
        ).y[:, -1]
    return {k: np.array([m[k] for m in mornings]) for k in mornings[0]}
