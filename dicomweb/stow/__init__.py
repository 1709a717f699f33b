"""Images that are sent to us over HTTP: STOW-RS (PS3.18 10.5)."""
