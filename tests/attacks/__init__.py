"""The gateway as its adversary meets it: odd clients, hostile archives, and whoever wonders what is hidden."""
