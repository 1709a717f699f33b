"""The gateway as service class provider: what each service answers on an association that the door took."""
