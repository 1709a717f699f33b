"""Studies at rest: sealed objects, the keys that open them, and where both lie."""
