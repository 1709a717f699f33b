"""Taking in instances: what each says it is, who may bring it, and where it is kept before anybody is told so."""
