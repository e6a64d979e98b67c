"""Friberg's chain behind a pool of stem cells that drugs can exhaust (Henrich 2017).

In Friberg's model the marrow forgets a course of treatment as soon as its proliferating pool has
grown back. Here a second pool replicates slowly and feeds it; drugs act on both, and what they
take from the slow one is missing in later courses: nadirs deepen from course to course.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import jax.numpy as jnp

from pkpd.marrow.friberg import (
    FLOOR,
    Friberg,
    Parameters,
    States,
    feedback_factor,
    growth_factor,
    share_of_set_point,
)


@dataclass(frozen=True)
class StemCellMarrow(Friberg):
    """Stem cells, proliferating cells, a chain of transits, circulating cells.

    With ``F = (set_point / Circ)^gamma``, ``ktr = (transits + 1) / MTT``, ``k_prol = ftr ktr`` and
    ``k_stem = (1 - ftr) ktr``::

        dStem/dt = k_stem Stem ((1 - E) F - 1) - kill Stem
        dProl/dt = k_prol Prol (1 - E) F + k_stem Stem - ktr Prol - kill Prol
        dTr1/dt  = ktr (Prol - Tr1)   ...   dTrn/dt = ktr (Tr(n-1) - Trn)
        dCirc/dt = ktr Trn - k_circ Circ

    Parameters
    ----------
    transits
        Number of transit compartments; 3 as published.
    circulation
        ``"ktr"``: circulating cells leave at ``ktr``; ``"own"``: at ``k_circ``.
    feedback_rule, saturation
        As `pkpd.marrow.friberg.Friberg`.

    Notes
    -----
    Parameters: those of `pkpd.marrow.friberg.Friberg`, and ``ftr``, the share of new proliferating
    cells that come from their own division (above 0, at most 1). With ``ftr = 1`` the stem pool
    stands still and the model is Friberg's.

    States are the logarithm of the stem pool and the proliferating pool per stem cell, ``q``::

        dq/dt = ktr (1 - ftr - ftr q + (2 ftr - 1) q (1 - E) F)

    A kill takes the same share of both pools and leaves ``q`` alone, so that no kill is too fast
    for long steps; and ``q`` may be 0, as the logarithm of an emptied pool may not.

    References
    ----------
    Henrich A et al., J Pharmacol Exp Ther 2017;362:347-358, doi:10.1124/jpet.117.240309. The
    equations are those of a published transcription; the paper's parameters were not found, and
    the card `henrich2017_stem_cells` says what it assumes instead.
    """

    called: ClassVar = "marrow with stem cells"

    @property
    def states(self) -> tuple[str, ...]:
        """Names of the states."""
        return ("log_stem", "proliferating_per_stem", *super().states[1:])

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters read."""
        names = super().parameters
        return (*names[:4], "ftr", *names[4:])

    def start(self, p: Parameters) -> list[Any]:
        """All pools at ``baseline / set_point`` of their steady state."""
        z = share_of_set_point(self, p)
        return [jnp.log(z), jnp.ones_like(z)] + [z] * (self.transits + 1)

    def rates(self, y: States, effect: Any, kill: Any, p: Parameters) -> list[Any]:
        """Time derivatives of the scaled states per hour."""
        ktr, ftr = self._ktr(p), p["ftr"]
        feedback = feedback_factor(jnp.maximum(y[-1], FLOOR), p["gamma"], self.saturation)
        growth = growth_factor(effect, feedback, self.feedback_rule)
        pools = [y[1] * jnp.exp(y[0]), *y[2:-1]]
        return [
            (1.0 - ftr) * ktr * (growth - 1.0) - kill,
            ktr * (1.0 - ftr - ftr * y[1] + (2.0 * ftr - 1.0) * growth * y[1]),
            *(ktr * (before - pool) for before, pool in pairwise(pools)),
            self._k_circ(p) * (y[-2] - y[-1]),
        ]
