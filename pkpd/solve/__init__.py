"""Numerical core: one folder for each engine, and the choice between them."""

from __future__ import annotations

import pkpd.float64  # noqa: F401  (before anything is traced)
