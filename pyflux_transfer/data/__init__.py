"""From folders, tables and files of images to batches of float32 arrays."""
