"""The registers that a decision reads, one file a noun: its tables and the acts on them."""
