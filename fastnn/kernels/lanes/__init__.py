"""Networks side by side, a network in each lane of a vector."""
