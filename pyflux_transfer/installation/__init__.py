"""The Julia of this machine: where it is written down, how it is set up, what is missing."""
