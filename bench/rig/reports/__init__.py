"""Reports as a RIS sends them, by processes of their own: who sends, and who takes them."""
