"""Estimates over images, and what they are worth."""
