"""From images to scores and verdicts: features, kinds of detector, thresholds."""
