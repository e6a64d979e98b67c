"""Predictions of observations: structural models bound to the records of a data set."""
