"""How callers conduct themselves over many questions: budgets and signs of enumeration (product M5, SAF-39)."""
