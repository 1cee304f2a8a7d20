"""The networks: encoders, their parts, and trained ones on disk."""
