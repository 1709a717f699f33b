"""When a report reaches its patient, and why not yet: rules that clinicians argue about, as pure functions."""
