"""What stands behind each door of a running node, and how its callers are answered."""
