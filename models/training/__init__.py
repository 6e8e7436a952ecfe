"""How the model `shapes` is trained (see ../train_shapes.py)."""
