"""Tables of photos: what is read from each kind, and the checks that are the same for all."""
