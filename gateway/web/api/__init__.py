"""The HTTP API of report release for staff and their systems, with its own description in OpenAPI."""
