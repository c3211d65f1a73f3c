"""When things run: Prefect flows without logic of their own."""
