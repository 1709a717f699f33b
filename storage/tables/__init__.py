"""Tables that belong to no register: column types, the growing audit chain, the marks of commits."""
