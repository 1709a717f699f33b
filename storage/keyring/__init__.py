"""Keys of what is sealed at rest: a store of their own, wrapped by what lies elsewhere (DEC-20)."""
