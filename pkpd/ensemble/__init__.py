"""Patients of a population under draws of the parameters: counts as labelled data sets."""
