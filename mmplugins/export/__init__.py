"""Pretrained backbones out: as weights for other projects, and as graphs."""
