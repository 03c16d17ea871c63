"""What can be known of a model and its photos: arrays in, numbers and pictures out."""
