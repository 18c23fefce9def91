"""What a model says of both views: detections and label maps."""
