"""Commands for whoever keeps the region running: how it is, and what is wrong with an archive."""
