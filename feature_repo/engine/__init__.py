"""What a definition means: from a customer's events to feature values. No I/O, no Bytewax."""
