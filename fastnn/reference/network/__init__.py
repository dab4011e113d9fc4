"""The twins of what runs a network that is data."""
