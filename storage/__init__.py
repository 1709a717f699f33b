"""What is kept: registers, facts for decisions, and the audit chain, on SQLite or PostgreSQL."""
