"""What is made of what was heard: the words that an answer has of every trust, and the record of it."""
