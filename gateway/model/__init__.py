"""The vocabulary that every room may import: errors, imaging, audit, and the seams behind which the outside lives."""
