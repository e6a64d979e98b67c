"""The report of a comparison: terminal, tables, figures, one page."""
