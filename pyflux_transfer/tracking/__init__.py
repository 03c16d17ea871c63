"""Trackers: what a run does, told to TensorBoard, MLflow or Weights & Biases.

A tracker is one small adapter; one that fails is told no more, and the training goes on.
"""
