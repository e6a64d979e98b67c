"""A population as one problem: the reference in JAX, the choice of engine, what went wrong."""
