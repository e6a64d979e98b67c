"""Schedules in the browser: a page on this machine that simulates what its controls say."""
