"""What a number from a few hundred images is worth."""
