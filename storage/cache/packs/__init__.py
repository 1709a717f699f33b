"""Sealed bytes on a local disk: how they lie in files, who adds to these, and what is durable."""
