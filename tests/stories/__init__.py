"""Stories: a whole region in processes of its own, told in the users' words and judged by what they can see."""
