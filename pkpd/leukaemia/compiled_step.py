"""One time step of the joint model for a block of patients side by side.

Each pool is advanced exactly for inputs and rates held constant over the step (exponential Euler);
down a chain each pool gets the mean of the old and the new content of the one before it, and
feedback is taken at counts extrapolated to the middle of the step, which together make the step of
second order in effect. Every factor is positive, so no pool can turn negative whatever the kill.

Patients of a block lie next to each other in memory, so that the compiler works on several at once.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pkpd.leukaemia.compiled_math import fast_exp, fast_log
from pkpd.leukaemia.equations import HAZARD_COUNT, PARAMETERS, STATES

WIDTH = 32
"""Patients of a block."""

N_STATES = len(STATES) + 2  # and the counts one step ago, for extrapolation
N_PARAMETERS = len(PARAMETERS)
N_TODAY = 8
"""Inputs of a day: rates of intensity for early cells, committed cells, blasts and late injury;
filgrastim on; mean lenalidomide (umol/L); rates for early and committed platelet cells."""

N_FIXED = 16
"""Factors of the step that do not change: see `step_factors`."""

(_RHO, _RHO_P, _CAPACITY, _CAPACITY_P, _CROWDING, _BLOCK, _RESERVE, _K, _KC, _N0, _GAMMA, _BETA,
 _CLEARANCE, _KM, _P0, _GAMMA_P, _TPO, _AGEING, _FIXED_LOSS, _SELF, _KILL, _KILL_P, _Q_N, _Q_P,
 _KILL_L, _TP_DOSE, _K_IN, _K_TP, _CLO_S, _EC_S, _CLO_C, _EC_C, _CLO_P, _CLO_L, _HILL, _LEN_MG,
 _LEN_KA, _LEN_KE, _EMAX, _EC_N, _EC_P, _LEN_S, _LEN_L, _INJURY_RATE, _INJURY_LOSS, _GROWTH,
 _PER_BLAST, _PHI, _SHARE, _OTHER, _FILGRASTIM, _PEG_OWN, _PEG_N, _INCREMENT, _X_LOSS, _H0,
 _H_N, _H_L) = (
    i * WIDTH for i in range(58)
)  # fmt: skip
(_S, _SP, _J1, _J2, _C, _T1, _T2, _T3, _N, _M0, _M1, _M2, _P, _L, _X, _CLO, _TP, _PEG,
 _GUT, _CENTRAL, _HAZARD, _J3, _J4, _J5, _N_OLD, _P_OLD) = (
    i * WIDTH for i in range(N_STATES)
)  # fmt: skip


@njit(error_model="numpy", fastmath={"contract"})
def _mean_decay(x: float) -> float:
    """``(1 - exp(-x)) / x``, the mean of a decay over a step; also for ``x`` near or below 0."""
    small = 1.0 - x * (0.5 - x * (1.0 / 6.0 - x * (1.0 / 24.0)))
    near = abs(x) < 1e-3
    safe = 1.0 if near else x
    return small if near else (1.0 - fast_exp(-safe)) / safe


@njit(nogil=True, error_model="numpy", fastmath={"contract"})
def step_factors(par: np.ndarray, fixed: np.ndarray, h: float) -> None:
    """Factors of linear parts over a step of ``h`` days, into ``fixed``."""
    for i in range(WIDTH):
        k_in, k = par[_K_IN + i], par[_K_TP + i]
        e_in, e_k = fast_exp(-k_in * h), fast_exp(-k * h)
        scale = k_in / (k_in - k)
        fixed[i] = e_in
        fixed[WIDTH + i] = e_k
        fixed[2 * WIDTH + i] = scale * (e_k - e_in)
        fixed[3 * WIDTH + i] = (1.0 - e_k) / (k * h)
        fixed[4 * WIDTH + i] = scale * ((1.0 - e_k) / k - (1.0 - e_in) / k_in) / h
        ka, ke = par[_LEN_KA + i], par[_LEN_KE + i]
        e_a, e_e = fast_exp(-ka * h), fast_exp(-ke * h)
        scale = ka / (ka - ke)
        fixed[5 * WIDTH + i] = e_a
        fixed[6 * WIDTH + i] = e_e
        fixed[7 * WIDTH + i] = scale * (e_e - e_a)
        fixed[8 * WIDTH + i] = (1.0 - e_e) / (ke * h)
        fixed[9 * WIDTH + i] = scale * ((1.0 - e_e) / ke - (1.0 - e_a) / ka) / h
        fixed[10 * WIDTH + i] = fast_exp(-par[_KC + i] * h)
        fixed[11 * WIDTH + i] = fast_exp(-par[_KM + i] * h)
        fixed[12 * WIDTH + i] = fast_exp(-par[_INJURY_RATE + i] * h)
        fixed[13 * WIDTH + i] = fast_exp(-par[_X_LOSS + i] * h)
        fixed[14 * WIDTH + i] = fast_exp(par[_HILL + i] * fast_log(par[_EC_S + i]))
        fixed[15 * WIDTH + i] = fast_exp(par[_HILL + i] * fast_log(par[_EC_C + i]))


@njit(nogil=True, error_model="numpy", fastmath={"contract"})
def advance(
    y: np.ndarray,
    par: np.ndarray,
    fixed: np.ndarray,
    today: np.ndarray,
    h: float,
    feedback: int,
    linear_effect: bool,
    above_one: int,
    oral: bool,
) -> None:
    """Advance a block of patients by ``h`` days; arrays are flat, ``[rows * WIDTH]``."""
    beta_on = 1.0 if feedback == 0 else 0.0
    by_level = feedback == 0
    by_count = feedback == 1
    excess_on = 0.0 if above_one == 0 else 1.0
    kept = above_one == 1
    for i in range(WIDTH):
        # drugs, exactly
        clo, tp = y[_CLO + i], y[_TP + i]
        y[_CLO + i] = clo * fixed[i]
        y[_TP + i] = tp * fixed[WIDTH + i] + clo * fixed[2 * WIDTH + i]
        tp = tp * fixed[3 * WIDTH + i] + clo * fixed[4 * WIDTH + i]
        gut, central = y[_GUT + i], y[_CENTRAL + i]
        y[_GUT + i] = gut * fixed[5 * WIDTH + i]
        y[_CENTRAL + i] = central * fixed[6 * WIDTH + i] + gut * fixed[7 * WIDTH + i]
        mean_level = central * fixed[8 * WIDTH + i] + gut * fixed[9 * WIDTH + i]
        level = mean_level if oral else today[5 * WIDTH + i]
        emax = par[_EMAX + i]
        ec_n, ec_p = par[_EC_N + i], par[_EC_P + i]
        effect_n = level / ec_n if linear_effect else emax * level / (ec_n + level)
        effect_p = level / ec_p if linear_effect else emax * level / (ec_p + level)
        power = fast_exp(par[_HILL + i] * fast_log(max(tp, 1e-9)))
        clo_stem = power / (fixed[14 * WIDTH + i] + power)
        clo_committed = par[_CLO_C + i] * power / (fixed[15 * WIDTH + i] + power)
        spared = min(effect_n, 1.0)

        # blasts: logistic growth and kill, exactly
        blasts = y[_L + i]
        growth = par[_GROWTH + i]
        kill = par[_KILL_L + i] * today[2 * WIDTH + i]
        kill += par[_CLO_L + i] * clo_stem + par[_LEN_L + i] * spared
        x = (growth - kill) * h
        e = fast_exp(x)
        phi = _mean_decay(-x) * h
        after = blasts * e / (1.0 + growth * blasts * phi)
        y[_L + i] = after
        blasts = 0.5 * (blasts + after)

        # late injury
        decay = fixed[12 * WIDTH + i]
        j1, j2, j3 = y[_J1 + i], y[_J2 + i], y[_J3 + i]
        j1_new = j1 * decay + today[3 * WIDTH + i] * (1.0 - decay) / par[_INJURY_RATE + i]
        j2_new = j2 * decay + (1.0 - decay) * 0.5 * (j1 + j1_new)
        y[_J1 + i] = j1_new
        y[_J2 + i] = j2_new
        j3_new = j3 * decay + (1.0 - decay) * 0.5 * (j2 + j2_new)
        y[_J3 + i] = j3_new
        j4, j5 = y[_J4 + i], y[_J5 + i]
        j4_new = j4 * decay + (1.0 - decay) * 0.5 * (j3 + j3_new)
        y[_J4 + i] = j4_new
        j5_new = j5 * decay + (1.0 - decay) * 0.5 * (j4 + j4_new)
        y[_J5 + i] = j5_new

        # early pools: logistic with inflow
        other = par[_LEN_S + i] * spared + par[_CLO_S + i] * clo_stem
        other += par[_INJURY_LOSS + i] * 0.5 * (j5 + j5_new)
        room = 1.0 - par[_CROWDING + i] * blasts
        reserve, capacity = par[_RESERVE + i], par[_CAPACITY + i]
        rho = par[_RHO + i]
        stem = y[_S + i]
        x = (rho * room - par[_KILL + i] * today[i] - other) * h
        phi = _mean_decay(-x) * h
        inflow = reserve * max(room - stem / capacity, 0.0)
        after = (stem * fast_exp(x) + inflow * phi) / (1.0 + rho / capacity * stem * phi)
        y[_S + i] = after
        stem = 0.5 * (stem + after)
        rho, capacity = par[_RHO_P + i], par[_CAPACITY_P + i]
        stem_p = y[_SP + i]
        x = (rho * room - par[_KILL_P + i] * today[6 * WIDTH + i] - other) * h
        phi = _mean_decay(-x) * h
        inflow = reserve * max(room - stem_p / capacity, 0.0)
        after = (stem_p * fast_exp(x) + inflow * phi) / (1.0 + rho / capacity * stem_p * phi)
        y[_SP + i] = after
        stem_p = 0.5 * (stem_p + after)

        # feedback at the middle of the step
        n, p = y[_N + i], y[_P + i]
        n_mid = max(1.5 * n - 0.5 * y[_N_OLD + i], 0.5 * n)
        p_mid = max(1.5 * p - 0.5 * y[_P_OLD + i], 0.5 * p)
        y[_N_OLD + i] = n
        y[_P_OLD + i] = p
        peg = y[_PEG + i]
        on = max(today[4 * WIDTH + i], peg / (peg + 0.1))
        given = 1.0 + (par[_FILGRASTIM + i] - 1.0) * on
        g = par[_CLEARANCE + i] * par[_N0 + i]
        by_g = (1.0 + g) / (1.0 + g * n_mid)
        by_n = 1.0 / max(n_mid, 1e-12)
        log_level = fast_log(given * (by_g if by_level else (by_n if by_count else 1.0)))
        g_in = fast_exp(par[_GAMMA + i] * log_level)
        g_out = fast_exp(beta_on * par[_BETA + i] * log_level)
        a = par[_TPO + i]
        tpo = fast_exp(par[_GAMMA_P + i] * fast_log((a + 1.0) / (a + p_mid)))
        block = 1.0 / (1.0 + par[_BLOCK + i] * blasts)

        # neutrophil chain
        k = par[_K + i]
        rest = max(1.0 - effect_n, 0.0)
        excess = excess_on * max(effect_n - 1.0, 0.0) * (g_in if kept else 1.0)
        committed = y[_C + i]
        self_renewal = par[_SELF + i]
        made = k * block * g_in * rest
        kill = par[_KILL + i] * today[WIDTH + i]
        loss = k * (g_out + excess) + par[_Q_N + i] * kill + clo_committed - self_renewal * made
        x = loss * h
        e = fast_exp(-x)
        after = committed * e + (1.0 - self_renewal) * made * stem * h * _mean_decay(x)
        y[_C + i] = after
        before = 0.5 * (committed + after)
        e = fast_exp(-k * g_out * h)
        t = y[_T1 + i]
        after = t * e + (1.0 - e) * before
        y[_T1 + i] = after
        before = 0.5 * (t + after)
        t = y[_T2 + i]
        after = t * e + (1.0 - e) * before
        y[_T2 + i] = after
        before = 0.5 * (t + after)
        t = y[_T3 + i]
        after = t * e + (1.0 - e) * before
        y[_T3 + i] = after
        before = 0.5 * (t + after)
        e = fixed[10 * WIDTH + i]
        n_new = n * e + (1.0 - e) * g_out * before
        y[_N + i] = n_new

        # platelet chain
        km = par[_KM + i]
        rest = max(1.0 - effect_p, 0.0)
        kill = par[_KILL + i] * today[7 * WIDTH + i]
        excess = excess_on * max(effect_p - 1.0, 0.0) * (tpo if kept else 1.0)
        m = y[_M0 + i]
        x = (km * (1.0 + excess) + par[_Q_P + i] * kill + par[_CLO_P + i] * clo_committed) * h
        after = m * fast_exp(-x) + km * block * tpo * rest * stem_p * h * _mean_decay(x)
        y[_M0 + i] = after
        before = 0.5 * (m + after)
        e = fixed[11 * WIDTH + i]
        m = y[_M1 + i]
        after = m * e + (1.0 - e) * before
        y[_M1 + i] = after
        before = 0.5 * (m + after)
        m = y[_M2 + i]
        after = m * e + (1.0 - e) * before
        y[_M2 + i] = after
        before = 0.5 * (m + after)
        normal, lost = par[_P0 + i], par[_FIXED_LOSS + i]
        at_normal = par[_AGEING + i] + lost / (normal + 5.0)
        x = (par[_AGEING + i] + lost / (p_mid * normal + 5.0)) * h
        y[_P + i] = p * fast_exp(-x) + at_normal * before * h * _mean_decay(x)

        # transfused platelets, pegfilgrastim, hazard of death
        y[_X + i] *= fixed[13 * WIDTH + i]
        y[_PEG + i] = peg * fast_exp(-(par[_PEG_OWN + i] + par[_PEG_N + i] * n) * h)
        scale = par[_N0 + i] / HAZARD_COUNT
        u, v = n * scale, n_new * scale
        deep = 0.5 / (1.0 + u * u) + 0.5 / (1.0 + v * v)
        many = min(blasts / 0.3, 2.0)
        y[_HAZARD + i] += h * (par[_H0 + i] + par[_H_N + i] * deep + par[_H_L + i] * many)
