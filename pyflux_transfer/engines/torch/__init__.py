"""The embedded engine: PyTorch, whose models are built from the units."""
