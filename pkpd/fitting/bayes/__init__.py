"""The posterior: its density, starting points, and samplers."""
