"""`python -m pyflux_transfer` is the command line."""

from pyflux_transfer.cli.app import main

main()
