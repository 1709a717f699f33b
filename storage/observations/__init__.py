"""What the gateway has observed of the region: knowledge that helps to ask, and that no decision about access reads."""
