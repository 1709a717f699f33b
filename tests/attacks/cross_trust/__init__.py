"""Trust x role x patient relation x question x door, and what each may see (goal G19)."""
