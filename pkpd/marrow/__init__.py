"""Marrows: equations of the lines of blood cells, and how drugs act on them."""

from __future__ import annotations

import pkpd.float64  # noqa: F401  (before anything is traced)
