"""How features lie in the stores."""
