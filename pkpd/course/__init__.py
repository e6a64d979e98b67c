"""The course of patients through a schedule: doses, drug, counts, decisions, day by day."""
