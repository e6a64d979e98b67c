"""Figures of a fit."""
