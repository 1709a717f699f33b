"""How data sets are written (PS3.5): structure and values, both ways. Knows no service and no network."""
