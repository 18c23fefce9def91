"""Resolution transfer: which sizes a model is asked for, and what follows from them."""
