"""Maximum likelihood with the random effects integrated out: FOCE-I, Laplace, FO."""
