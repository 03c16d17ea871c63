"""Weights: the published ones as rows, where their files are found, how they fit a network."""
