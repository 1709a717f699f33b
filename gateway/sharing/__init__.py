"""Images from trust to trust: the guarded door and what it needs. No sockets, no SQL, no wire formats."""
