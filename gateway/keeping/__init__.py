"""What keeps images: keys, the sealed cache, and durable work on both, opened, watched and closed as one."""
