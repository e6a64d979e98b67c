"""The engine for any event record of a data set, linear or not."""
