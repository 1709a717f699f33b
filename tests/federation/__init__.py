"""One gateway before archives of several makers, and whatever may go wrong between them (product 3.1)."""
