"""What a model is made of: layers, losses, optimizers, and the stack of layers over one buffer, lowered to data."""
