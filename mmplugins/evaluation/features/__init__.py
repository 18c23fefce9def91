"""Feature maps of both views: errors, and what can be read off them."""
