"""Images as the simulated PACS sends and takes them, and the ways in which it may send them wrongly."""
