"""The viewer in a browser: which one it is, how it is installed, and what it is told. Knows nothing of HTTP."""
