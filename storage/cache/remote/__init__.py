"""Sealed bytes in a bucket that several nodes share: packs as its objects, and what goes on without it."""
