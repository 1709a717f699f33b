"""Pixels: decoded, encoded and shown, in processes that may die of them. The only place of numpy and of codecs."""
