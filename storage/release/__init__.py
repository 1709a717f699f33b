"""Reports at rest: their versions, the messages that brought them, and what is known of each on its way out."""
