"""Whose rows these are: what they say of their patient, and what happens where they do not agree."""
