"""Gauss-Legendre quadrature over a cell, for what is not linear in the driver."""

from __future__ import annotations

import numpy as np

NODES, _WEIGHTS = np.polynomial.legendre.leggauss(4)
NODES = 0.5 * (NODES + 1.0)
"""Positions of the four nodes in a cell, as fractions of its length."""
WEIGHTS = 0.5 * _WEIGHTS
"""Weights of the nodes; they sum to one."""
