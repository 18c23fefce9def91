"""What encodings cost: one attention layer beside other forms of it, and whole steps."""
