"""Structures of `pkpd.models` inside a ``pm.Model`` of one's own."""

from __future__ import annotations

from pkpd.fitting.bayes.guest import observe, predictions

__all__ = ["observe", "predictions"]
