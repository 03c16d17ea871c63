"""The families of networks, a file each: from a few numbers to a tuple of units."""
