"""Schedules compared: scenario files, the run over cohorts, and its results."""
