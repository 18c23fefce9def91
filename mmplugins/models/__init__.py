"""Models for the hosts: backbones, a neck, and detectors."""
