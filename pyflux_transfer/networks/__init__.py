"""What a network is, without any framework: units, families, catalog, head, slices, weights."""
