"""``fit``: its arguments, its epochs, and what watches them."""
