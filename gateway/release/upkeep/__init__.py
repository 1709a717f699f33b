"""What is looked after again and again: whose reports are, and how long what was sent is kept."""
