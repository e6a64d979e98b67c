"""Menus, their limits and measures, as cards hold them, under public names."""

from __future__ import annotations

from pkpd.cards.menu_cards import load_menu
from pkpd.cards.menus import MEASURES, Limit, Measure, Menu, menu_of

__all__ = ["MEASURES", "Limit", "Measure", "Menu", "load_menu", "menu_of"]
