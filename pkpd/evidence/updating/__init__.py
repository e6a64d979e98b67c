"""A posterior after a change of the evidence: importance weights, and rows of one's own."""
