"""The statistical model: individual parameters, their spread, residual error, likelihood."""
