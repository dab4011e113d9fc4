"""A network that is data: its layers over a batch, an epoch of training, inference."""
