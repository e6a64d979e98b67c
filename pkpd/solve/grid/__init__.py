"""What every engine is given: a model's structure, versions of its kinetics, a grid of cells."""
