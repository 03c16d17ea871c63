"""How good the models are: data sets × photos a class × seeds, ours beside peers."""
