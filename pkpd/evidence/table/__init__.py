"""The table of published outcomes: its rows, arms and endpoints."""
