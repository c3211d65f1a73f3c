"""Customer embeddings: learnt from sessions, their sequence, and the balances at logins."""
