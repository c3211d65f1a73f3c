"""Where feature rows go: the online store and the offline store."""
