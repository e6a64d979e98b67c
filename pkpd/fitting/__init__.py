"""Fitting population models: statistical model, likelihood, posterior, checks."""
