"""Members of the loyalty programme: who they are, what they like and agreed to, how they stand. Points: elsewhere."""
