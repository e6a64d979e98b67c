"""Simulation-based calibration of a fit."""
