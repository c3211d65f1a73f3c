"""How a model version turns rows into answers: read by training and by serving alike."""
