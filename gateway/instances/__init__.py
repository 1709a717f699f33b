"""Encoded instances (PS3.5): what their bytes say, where in them things stand, and how to change a few of them."""
