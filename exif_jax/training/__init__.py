"""Training: the step, its mapping over devices, the loop, checkpoints, runs."""
