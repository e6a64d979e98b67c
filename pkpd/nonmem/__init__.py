"""NONMEM control streams as population models, checked against NONMEM's own output."""
