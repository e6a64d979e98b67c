"""Which covariates act on which parameters: candidates, their scores, the search, effects."""
