"""The people's door, and what every listening address has in common. Calls the core; has no door of its own."""
