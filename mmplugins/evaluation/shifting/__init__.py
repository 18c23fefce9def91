"""Translation equivariance: which views a model is asked for, and what follows from them."""
