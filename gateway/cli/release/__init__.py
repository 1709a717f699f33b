"""Commands on reports: when they reach their patients, who holds them back, and what their feeds brought."""
