"""The networks of ModelScope text-to-video in plain PyTorch, written to be scripted (see ../README.md)."""
