"""A report as its patient reads it: accessible HTML, tagged PDF, plain text; each with the disclaimer exactly once."""
