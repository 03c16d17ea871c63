"""Past one process: shares of a job in plain shells, the same on Ray; search, heads, Ray Serve.

The one owner of ray, optuna, pyarrow and fsspec. Nothing else imports it but the command line.
"""
