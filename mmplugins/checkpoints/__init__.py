"""Checkpoints of other projects to ours and back: pure renaming, one file a source."""
