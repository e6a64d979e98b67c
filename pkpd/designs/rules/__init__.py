"""One module for each family of designs, and the rules that all of them share."""
