"""One judge of a fit: what is told, what only together, what rests on start, bound or prior."""
