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

N_STATES = len(STATES) + 3  # and the counts and the hazard's share of them one step ago
N_PARAMETERS = len(PARAMETERS)
N_TODAY = 8
"""Inputs of a day: rates of intensity for early cells, committed cells, blasts and late injury;
growth factor on (0 to 1); mean lenalidomide (umol/L); rates for early and committed platelet
cells."""

N_FIXED = 19
"""Factors of the step that do not change: see `step_factors`."""

N_EFFECTS = 16
"""What the drugs do in a step: see `drug_effects`."""

(_RHO, _RHO_P, _CAPACITY, _CAPACITY_P, _CROWDING, _BLOCK, _RESERVE, _K, _KC, _N0, _GAMMA, _BETA,
 _CLEARANCE, _KM, _P0, _GAMMA_P, _TPO, _AGEING, _FIXED_LOSS, _SELF, _KILL, _KILL_P, _Q_N, _Q_P,
 _KILL_L, _TP_DOSE, _K_IN, _K_TP, _CLO_S, _EC_S, _CLO_C, _EC_C, _CLO_P, _CLO_L, _HILL, _LEN_MG,
 _LEN_KA, _LEN_KE, _EMAX, _EC_N, _EC_P, _LEN_S, _LEN_L, _INJURY_RATE, _INJURY_LOSS, _GROWTH,
 _PER_BLAST, _PHI, _SHARE, _OTHER, _FILGRASTIM, _PEG_OWN, _PEG_N, _INCREMENT, _X_LOSS, _H0,
 _H_N, _H_L) = (
    i * WIDTH for i in range(58)
)  # fmt: skip
(_S, _SP, _J1, _J2, _C, _T1, _T2, _T3, _N, _M0, _M1, _M2, _P, _L, _X, _CLO, _TP, _PEG,
 _GUT, _CENTRAL, _HAZARD, _J3, _J4, _J5, _N_OLD, _P_OLD, _DEEP) = (
    i * WIDTH for i in range(N_STATES)
)  # fmt: skip
(_CLO_E, _TP_E, _TP_CLO, _TP_MEAN, _TP_CLO_MEAN, _GUT_E, _LEN_E, _LEN_GUT, _LEN_MEAN, _LEN_GUT_MEAN,
 _KC_E, _KM_E, _INJURY_E, _X_E, _EC_S_POWER, _EC_C_POWER, _PER_CAPACITY, _PER_CAPACITY_P,
 _AT_NORMAL) = (
    i * WIDTH for i in range(N_FIXED)
)  # fmt: skip
(_TP_NOW, _CLO_STEM, _CLO_COMMITTED, _LEVEL, _BLASTS_E, _BLASTS_ROOM, _LOSS_S, _LOSS_SP, _INJURED,
 _LOSS_C, _LOSS_M, _REST_N, _REST_P, _EXCESS_N, _EXCESS_P, _ON) = (
    i * WIDTH for i in range(N_EFFECTS)
)  # fmt: skip
_NO_TP = 1e-9  # triphosphate (umol/L) below which it is taken as this much


@njit(error_model="numpy", fastmath={"contract"})
def _mean_decay(x: float, e: float) -> float:
    """``(1 - exp(-x)) / x``, the mean of a decay over a step, with ``e = exp(-x)``."""
    small = 1.0 - x * (0.5 - x * (1.0 / 6.0 - x * (1.0 / 24.0)))
    near = abs(x) < 1e-3
    return small if near else (1.0 - e) / (1.0 if near else x)


@njit(error_model="numpy", fastmath={"contract"})
def _logistic(pool: float, x: float, inflow: float, crowded: float) -> float:
    """Solve for a pool after a step: growth ``x``, inflow, and loss ``crowded`` x pool."""
    e = fast_exp(x)
    near = abs(x) < 1e-3
    # numerator and denominator are both multiplied by x, which saves a division
    small = 1.0 + x * (0.5 + x * (1.0 / 6.0 + x * (1.0 / 24.0)))
    mean, scale = small if near else e - 1.0, 1.0 if near else x
    return (pool * e * scale + inflow * mean) / (scale + crowded * pool * mean)


@njit(nogil=True, error_model="numpy", fastmath={"contract"})
def step_factors(par: np.ndarray, fixed: np.ndarray, h: float) -> None:
    """Factors of a step of ``h`` days that do not change, into ``fixed``."""
    for i in range(WIDTH):
        k_in, k = par[_K_IN + i], par[_K_TP + i]
        e_in, e_k = fast_exp(-k_in * h), fast_exp(-k * h)
        scale = k_in / (k_in - k)
        fixed[_CLO_E + i] = e_in
        fixed[_TP_E + i] = e_k
        fixed[_TP_CLO + i] = scale * (e_k - e_in)
        fixed[_TP_MEAN + i] = (1.0 - e_k) / (k * h)
        fixed[_TP_CLO_MEAN + i] = scale * ((1.0 - e_k) / k - (1.0 - e_in) / k_in) / h
        ka, ke = par[_LEN_KA + i], par[_LEN_KE + i]
        e_a, e_e = fast_exp(-ka * h), fast_exp(-ke * h)
        scale = ka / (ka - ke)
        fixed[_GUT_E + i] = e_a
        fixed[_LEN_E + i] = e_e
        fixed[_LEN_GUT + i] = scale * (e_e - e_a)
        fixed[_LEN_MEAN + i] = (1.0 - e_e) / (ke * h)
        fixed[_LEN_GUT_MEAN + i] = scale * ((1.0 - e_e) / ke - (1.0 - e_a) / ka) / h
        fixed[_KC_E + i] = fast_exp(-par[_KC + i] * h)
        fixed[_KM_E + i] = fast_exp(-par[_KM + i] * h)
        fixed[_INJURY_E + i] = fast_exp(-par[_INJURY_RATE + i] * h)
        fixed[_X_E + i] = fast_exp(-par[_X_LOSS + i] * h)
        fixed[_EC_S_POWER + i] = fast_exp(par[_HILL + i] * fast_log(par[_EC_S + i]))
        fixed[_EC_C_POWER + i] = fast_exp(par[_HILL + i] * fast_log(par[_EC_C + i]))
        fixed[_PER_CAPACITY + i] = 1.0 / par[_CAPACITY + i]
        fixed[_PER_CAPACITY_P + i] = 1.0 / par[_CAPACITY_P + i]
        fixed[_AT_NORMAL + i] = par[_AGEING + i] + par[_FIXED_LOSS + i] / (par[_P0 + i] + 5.0)


@njit(nogil=True, error_model="numpy", fastmath={"contract"})
def begin(y: np.ndarray, par: np.ndarray, fixed: np.ndarray, effects: np.ndarray) -> None:
    """Set what a step takes over from the one before it, and the effects of no drug."""
    for i in range(WIDTH):
        y[_N_OLD + i] = y[_N + i]
        y[_P_OLD + i] = y[_P + i]
        u = y[_N + i] * (par[_N0 + i] / HAZARD_COUNT)
        y[_DEEP + i] = 0.5 / (1.0 + u * u)
        effects[_LEVEL + i] = 0.0
        effects[_INJURED + i] = 0.0
        effects[_TP_NOW + i] = _NO_TP
    _clofarabine_effects(par, fixed, effects)


@njit(nogil=True, error_model="numpy", fastmath={"contract"})
def _clofarabine_effects(par: np.ndarray, fixed: np.ndarray, effects: np.ndarray) -> None:
    for i in range(WIDTH):
        power = fast_exp(par[_HILL + i] * fast_log(effects[_TP_NOW + i]))
        effects[_CLO_STEM + i] = power / (fixed[_EC_S_POWER + i] + power)
        committed = power / (fixed[_EC_C_POWER + i] + power)
        effects[_CLO_COMMITTED + i] = par[_CLO_C + i] * committed


@njit(nogil=True, error_model="numpy", fastmath={"contract"})
def clofarabine(
    y: np.ndarray, par: np.ndarray, fixed: np.ndarray, effects: np.ndarray, acts: bool
) -> bool:
    """Advance clofarabine and its triphosphate, exactly; say whether there is enough to act.

    ``acts`` is what the step before said; with none left the effects stay as they are.
    """
    top = 0.0
    for i in range(WIDTH):
        clo, tp = y[_CLO + i], y[_TP + i]
        top = max(top, clo + tp)
        y[_CLO + i] = clo * fixed[_CLO_E + i]
        y[_TP + i] = tp * fixed[_TP_E + i] + clo * fixed[_TP_CLO + i]
        mean = tp * fixed[_TP_MEAN + i] + clo * fixed[_TP_CLO_MEAN + i]
        effects[_TP_NOW + i] = max(mean, _NO_TP)
    enough = top >= _NO_TP
    if enough or acts:
        _clofarabine_effects(par, fixed, effects)
    return enough


@njit(nogil=True, error_model="numpy", fastmath={"contract"})
def lenalidomide(y: np.ndarray, fixed: np.ndarray, effects: np.ndarray) -> None:
    """Advance lenalidomide after doses by mouth, exactly."""
    for i in range(WIDTH):
        gut, central = y[_GUT + i], y[_CENTRAL + i]
        y[_GUT + i] = gut * fixed[_GUT_E + i]
        y[_CENTRAL + i] = central * fixed[_LEN_E + i] + gut * fixed[_LEN_GUT + i]
        effects[_LEVEL + i] = central * fixed[_LEN_MEAN + i] + gut * fixed[_LEN_GUT_MEAN + i]


@njit(nogil=True, error_model="numpy", fastmath={"contract"})
def drug_effects(
    par: np.ndarray,
    today: np.ndarray,
    effects: np.ndarray,
    h: float,
    linear_effect: bool,
    excess_on: bool,
    oral: bool,
) -> None:
    """Work out what drugs do in a step; it changes only with their doses and levels."""
    on = 1.0 if excess_on else 0.0
    for i in range(WIDTH):
        # reading both first leaves a selection, which can be a vector instruction, not a branch
        by_mouth, mean = effects[_LEVEL + i], today[5 * WIDTH + i]
        level = by_mouth if oral else mean
        emax_level = par[_EMAX + i] * level
        most = level if linear_effect else emax_level
        besides = 0.0 if linear_effect else level
        effect_n = most / (par[_EC_N + i] + besides)
        effect_p = most / (par[_EC_P + i] + besides)
        spared = min(effect_n, 1.0)
        effects[_REST_N + i] = max(1.0 - effect_n, 0.0)
        effects[_REST_P + i] = max(1.0 - effect_p, 0.0)
        effects[_EXCESS_N + i] = on * max(effect_n - 1.0, 0.0)
        effects[_EXCESS_P + i] = on * max(effect_p - 1.0, 0.0)
        clo_stem, clo_committed = effects[_CLO_STEM + i], effects[_CLO_COMMITTED + i]
        other = par[_LEN_S + i] * spared + par[_CLO_S + i] * clo_stem
        kill = par[_KILL + i]
        effects[_LOSS_S + i] = kill * today[i] + other
        effects[_LOSS_SP + i] = par[_KILL_P + i] * today[6 * WIDTH + i] + other
        effects[_LOSS_C + i] = par[_Q_N + i] * kill * today[WIDTH + i] + clo_committed
        loss = par[_Q_P + i] * kill * today[7 * WIDTH + i] + par[_CLO_P + i] * clo_committed
        effects[_LOSS_M + i] = loss
        # blasts: logistic growth and kill, exactly
        growth = par[_GROWTH + i]
        kill = par[_KILL_L + i] * today[2 * WIDTH + i]
        kill += par[_CLO_L + i] * clo_stem + par[_LEN_L + i] * spared
        x = (growth - kill) * h
        e = fast_exp(x)
        effects[_BLASTS_E + i] = e
        effects[_BLASTS_ROOM + i] = growth * h * _mean_decay(-x, e)


@njit(nogil=True, error_model="numpy", fastmath={"contract"})
def late_injury(
    y: np.ndarray, par: np.ndarray, fixed: np.ndarray, today: np.ndarray, effects: np.ndarray
) -> None:
    """Advance the chain of late injury."""
    for i in range(WIDTH):
        decay = fixed[_INJURY_E + i]
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
        effects[_INJURED + i] = par[_INJURY_LOSS + i] * 0.5 * (j5 + j5_new)


@njit(nogil=True, error_model="numpy", fastmath={"contract"})
def growth_factor_on(
    y: np.ndarray, par: np.ndarray, today: np.ndarray, effects: np.ndarray, h: float, peg: bool
) -> None:
    """Say how far growth factor is on in a step; pegfilgrastim is cleared by neutrophils."""
    for i in range(WIDTH):
        effects[_ON + i] = today[4 * WIDTH + i]
    if peg:
        for i in range(WIDTH):
            level = y[_PEG + i]
            effects[_ON + i] = max(today[4 * WIDTH + i], level / (level + 0.1))
            loss = par[_PEG_OWN + i] + par[_PEG_N + i] * y[_N + i]
            y[_PEG + i] = level * fast_exp(-loss * h)


@njit(nogil=True, error_model="numpy", fastmath={"contract"})
def advance(
    y: np.ndarray,
    par: np.ndarray,
    fixed: np.ndarray,
    effects: np.ndarray,
    h: float,
    feedback: int,
    above_one: int,
) -> None:
    """Advance a block of patients by ``h`` days; arrays are flat, ``[rows * WIDTH]``."""
    beta_on = 1.0 if feedback == 0 else 0.0
    by_level = feedback == 0
    by_count = feedback == 1
    kept = above_one == 1
    for i in range(WIDTH):
        blasts = y[_L + i]
        after = blasts * effects[_BLASTS_E + i] / (1.0 + effects[_BLASTS_ROOM + i] * blasts)
        y[_L + i] = after
        blasts = 0.5 * (blasts + after)

        # early pools: logistic with inflow
        room = 1.0 - par[_CROWDING + i] * blasts
        reserve, injured = par[_RESERVE + i], effects[_INJURED + i]
        stem = y[_S + i]
        rho, per = par[_RHO + i], fixed[_PER_CAPACITY + i]
        x = (rho * room - effects[_LOSS_S + i] - injured) * h
        after = _logistic(stem, x, h * reserve * max(room - stem * per, 0.0), h * rho * per)
        y[_S + i] = after
        stem = 0.5 * (stem + after)
        stem_p = y[_SP + i]
        rho, per = par[_RHO_P + i], fixed[_PER_CAPACITY_P + i]
        x = (rho * room - effects[_LOSS_SP + i] - injured) * h
        after = _logistic(stem_p, x, h * reserve * max(room - stem_p * per, 0.0), h * rho * per)
        y[_SP + i] = after
        stem_p = 0.5 * (stem_p + after)

        # feedback at the middle of the step; one division for two quotients
        n, p = y[_N + i], y[_P + i]
        n_mid = max(1.5 * n - 0.5 * y[_N_OLD + i], 0.5 * n)
        p_mid = max(1.5 * p - 0.5 * y[_P_OLD + i], 0.5 * p)
        y[_N_OLD + i] = n
        y[_P_OLD + i] = p
        given = 1.0 + (par[_FILGRASTIM + i] - 1.0) * effects[_ON + i]
        g = par[_CLEARANCE + i] * par[_N0 + i]
        made = given * (1.0 + g if by_level else 1.0)
        cleared = 1.0 + g * n_mid if by_level else (max(n_mid, 1e-12) if by_count else 1.0)
        a = par[_TPO + i]
        bound, blocked = a + p_mid, 1.0 + par[_BLOCK + i] * blasts
        one = 1.0 / (bound * blocked)
        log_level = fast_log(made / cleared)
        tpo = fast_exp(par[_GAMMA_P + i] * fast_log((a + 1.0) * (blocked * one)))
        block = bound * one
        g_in = fast_exp(par[_GAMMA + i] * log_level)
        g_out = fast_exp(beta_on * par[_BETA + i] * log_level)

        # neutrophil chain
        k = par[_K + i]
        excess = effects[_EXCESS_N + i] * (g_in if kept else 1.0)
        committed = y[_C + i]
        self_renewal = par[_SELF + i]
        made = k * block * g_in * effects[_REST_N + i]
        loss = k * (g_out + excess) + effects[_LOSS_C + i] - self_renewal * made
        x = loss * h
        e = fast_exp(-x)
        after = committed * e + (1.0 - self_renewal) * made * stem * h * _mean_decay(x, e)
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
        e = fixed[_KC_E + i]
        n_new = n * e + (1.0 - e) * g_out * before
        y[_N + i] = n_new

        # platelet chain
        km = par[_KM + i]
        excess = effects[_EXCESS_P + i] * (tpo if kept else 1.0)
        m = y[_M0 + i]
        x = (km * (1.0 + excess) + effects[_LOSS_M + i]) * h
        e = fast_exp(-x)
        after = m * e + km * block * tpo * effects[_REST_P + i] * stem_p * h * _mean_decay(x, e)
        y[_M0 + i] = after
        before = 0.5 * (m + after)
        e = fixed[_KM_E + i]
        m = y[_M1 + i]
        after = m * e + (1.0 - e) * before
        y[_M1 + i] = after
        before = 0.5 * (m + after)
        m = y[_M2 + i]
        after = m * e + (1.0 - e) * before
        y[_M2 + i] = after
        before = 0.5 * (m + after)
        x = (par[_AGEING + i] + par[_FIXED_LOSS + i] / (p_mid * par[_P0 + i] + 5.0)) * h
        e = fast_exp(-x)
        y[_P + i] = p * e + fixed[_AT_NORMAL + i] * before * h * _mean_decay(x, e)

        # transfused platelets, hazard of death
        y[_X + i] *= fixed[_X_E + i]
        v = n_new * (par[_N0 + i] * (1.0 / HAZARD_COUNT))
        deep = 0.5 / (1.0 + v * v)
        many = min(blasts * (1.0 / 0.3), 2.0)
        rate = par[_H0 + i] + par[_H_N + i] * (y[_DEEP + i] + deep) + par[_H_L + i] * many
        y[_DEEP + i] = deep
        y[_HAZARD + i] += h * rate
