"""Looking at data before a model is fitted: what there is, and rows to doubt."""
