"""Checks of a fit: residuals, predictive checks, leave-one-out, diagnostics in words."""
