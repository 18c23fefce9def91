"""Command lines: from a config and checkpoints to files of results."""
