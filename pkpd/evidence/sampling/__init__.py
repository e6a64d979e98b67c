"""Samplers of the evidence posterior, and whether they converged."""
