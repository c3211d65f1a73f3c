"""What every room agrees on: events, money, features, model inputs, settings and errors."""
