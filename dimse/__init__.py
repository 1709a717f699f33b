"""The DIMSE edge: associations in, and PACSs asked. Decides nothing about who may see what."""
