"""From an equation written once in JAX to vector code: many patients side by side."""
