"""Reports asked for as such, under the same guard as images."""
