"""Measured speed: each row of the table against a peer, on the same work in the same run."""
