"""Answers: the online reader, the loaded models, the prediction API."""
