"""The local stack and the `daima` command."""
