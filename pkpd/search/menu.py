"""Menus, their limits and measures, as `pkpd.cards.menu_cards` reads them, under public names."""

from __future__ import annotations

from pkpd.cards.menu_cards import MEASURES, Limit, Measure, Menu, load_menu, menu_of

__all__ = ["MEASURES", "Limit", "Measure", "Menu", "load_menu", "menu_of"]
