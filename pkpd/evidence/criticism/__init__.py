"""Predictions against rows that were, and were not, used."""
