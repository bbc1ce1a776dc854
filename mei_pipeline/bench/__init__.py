"""Benchmarks of this machine: fixed work on synthetic markets in memory, through the simulation of nightly runs."""
