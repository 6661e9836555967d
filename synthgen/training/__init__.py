"""Training on a finished data set with TRL."""
