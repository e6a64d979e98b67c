"""How sure estimates are and which model is better: ratios of likelihoods, bootstrap, profiles."""
