"""DIMSE under measurement: peers as processes, senders, a client that asks, and the few bytes of protocol they need."""
