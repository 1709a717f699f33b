"""Whether what is kept is still what its holders have (SAF-37)."""
