"""Sole copies and who answers for them: back to their custodians' archives, and storage commitment in both roles."""
