"""The product of matrices: tiles that stay in registers, what is done to them at their end, panels and blocks."""
