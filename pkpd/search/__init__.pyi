from .choice import pareto, short_list
from .menu import MEASURES, Limit, Measure, Menu, load_menu, menu_of
from .result import NothingAllowedError
from .search import search_schedules

__all__ = [
    "MEASURES",
    "Limit",
    "Measure",
    "Menu",
    "NothingAllowedError",
    "load_menu",
    "menu_of",
    "pareto",
    "search_schedules",
    "short_list",
]
