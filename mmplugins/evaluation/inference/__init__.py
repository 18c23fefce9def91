"""One pass of a model over shifted views of every image, kept on disk."""
