"""Linear pharmacokinetics, exact: compartments, propagation over a cell, steady state."""

from __future__ import annotations

import pkpd.float64  # noqa: F401  (before anything is traced)
