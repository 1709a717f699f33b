"""Images over HTTP: WADO-RS as we serve it and as we ask others, and the bodies that carry instances."""
