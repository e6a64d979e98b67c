"""The likelihood of published outcomes given simulated patients, and the priors."""
