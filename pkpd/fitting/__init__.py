"""Fitting population models: statistical model, likelihood, posterior, checks."""

from pkpd.machine import lend_home

lend_home()  # before PyMC and ArviZ are imported below
