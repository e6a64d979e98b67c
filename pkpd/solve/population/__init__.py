"""A population on one grid of cells: the problem, the reference engine in JAX, what went wrong."""
