"""The networks of Wan 2.1 text to video (Wan Team 2025, https://arxiv.org/abs/2503.20314), written to be scripted."""
