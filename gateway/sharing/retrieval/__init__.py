"""Images on their way to who may have them: what is had, from whom it comes, and what became of it."""
