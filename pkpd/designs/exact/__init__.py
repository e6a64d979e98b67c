"""Exact operating characteristics: every course that a trial can take, each counted once."""
