"""The compiled engine of populations: vector kernels with their adjoints."""
