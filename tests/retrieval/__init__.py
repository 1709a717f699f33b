"""Images on the one road: from peers through the sealed cache to who may have them."""
