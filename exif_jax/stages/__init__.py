"""The three stages of the method: pretext, one-class, binary."""
