"""Data sets that pass while they travel: in from an association and out to one, never whole in memory."""
