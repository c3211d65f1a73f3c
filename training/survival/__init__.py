"""How long things last, by group: censored fits, what they are worth, what follows from them."""
