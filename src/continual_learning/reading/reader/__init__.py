"""A reader: the base with an adapter, which answers in a text's own words."""
