"""Bodies of HTTP messages as they are written: borders of parts, heads of files, and answers that take their time."""
