"""A posterior that is kept: its draws, what was learned, and the one that is shipped."""
