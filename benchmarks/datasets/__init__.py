"""Labelled image sets for the measurements, made from packages of Debian, PyPI and npm."""
