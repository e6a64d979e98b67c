"""Simulated trials with accrual, late toxicities and backfilling."""
