"""Where the steps lie after an event: short at first, then growing with the time since it.

A dose excites fast processes that die out as ``exp(-rate s)``. A step of length ``growth * s`` at
``s`` hours after it is short enough for every process that still matters then, whatever its rate,
so a few dozen steps after each event do what thousands of equal steps would.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np


class StepLengths(NamedTuple):
    """Lengths of steps at ``s`` hours after a dose arrives or an infusion starts or ends.

    ``min(first + growth * s, longest)``, and shorter where an event ends it. Each is then cut into
    ``refine``, those that an event ended too: errors are estimated by this.

    Attributes
    ----------
    first, longest
        Hours.
    growth
        Part of the elapsed time.
    refine
        2 for steps of half the length; whole.
    """

    first: Any
    longest: Any
    growth: Any = 0.2
    refine: Any = 1.0


def elapsed_steps(lengths: StepLengths, s: Any, xp: Any = jnp) -> Any:
    """Return the number of steps, not whole and not yet cut, of ``s`` hours after an event."""
    first, longest, growth = lengths.first, lengths.longest, lengths.growth
    turn = (longest - first) / growth
    rising = xp.log1p(growth * xp.minimum(s, turn) / first) / xp.log1p(growth)
    return rising + xp.maximum(s - turn, 0.0) / longest


def hours_elapsed(lengths: StepLengths, steps: Any) -> Any:
    """Return the hours after an event that so many steps take; inverse of `elapsed_steps`."""
    first, longest, growth = lengths.first, lengths.longest, lengths.growth
    turn = (longest - first) / growth
    at_turn = jnp.log1p(growth * turn / first) / jnp.log1p(growth)
    rising = first / growth * jnp.expm1(jnp.minimum(steps, at_turn) * jnp.log1p(growth))
    return rising + jnp.maximum(steps - at_turn, 0.0) * longest


def most_steps(
    lengths: StepLengths, hours: np.ndarray, events: np.ndarray, pieces: np.ndarray
) -> int:
    """Return a number of steps that no subject can exceed.

    Parameters
    ----------
    lengths
        Numbers.
    hours
        Spanned by each subject's records, [B].
    events
        Events after which steps are short again, [B], at least 1.
    pieces
        Stretches between events, [B]; the steps of each are rounded up.
    """
    # the count of steps is concave in time, so equal gaps between events take most of them
    each = elapsed_steps(lengths, hours / events, np)
    return int(np.ceil(lengths.refine * np.max(events * each + pieces, initial=1.0)))
