"""`gateway.toml` and the environment as one frozen value, checked before anything starts."""
