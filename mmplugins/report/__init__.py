"""One page about all runs: score cards, plots, pictures, and what is certain of them."""
