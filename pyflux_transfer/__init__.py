"""Image transfer learning from Python on Flux and Metalhead."""
