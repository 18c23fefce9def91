"""The instrument, held to models whose verdict is known."""
