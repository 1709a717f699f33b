"""The guard at the one door."""
