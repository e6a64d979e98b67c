"""Vector code: many patients side by side, and the way to it from an equation written in JAX."""
