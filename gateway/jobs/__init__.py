"""Durable work at run time: who claims it on this node, and how many jobs of which urgency at once."""
