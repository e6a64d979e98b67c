"""Exposures: non-compartmental analysis of data, areas and peaks of simulated patients."""
