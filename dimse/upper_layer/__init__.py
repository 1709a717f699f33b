"""The upper layer of PS3.8 and the messages of PS3.7: associations, their negotiation and their bytes. No services."""
