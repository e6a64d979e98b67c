"""Fitting population models: statistical model, likelihood, posterior, checks."""

from pkpd.machine import ready_for_pymc

ready_for_pymc()  # before PyMC and ArviZ are imported below
