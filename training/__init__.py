"""From the offline store to registered model versions."""
