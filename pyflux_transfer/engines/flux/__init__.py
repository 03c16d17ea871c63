"""The engine in Julia: Flux and Metalhead behind juliacall."""
