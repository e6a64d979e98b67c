"""How fast and how exact the engine is, beside the tools a user would otherwise take."""
