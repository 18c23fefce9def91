"""Look at what an encoding does: its bias and attention on a picture, its buckets on a grid."""
