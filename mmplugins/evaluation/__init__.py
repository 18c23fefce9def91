"""How far a model is from translation equivariance: shifts, errors, predictions, statistics."""
