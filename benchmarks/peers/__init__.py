"""Receivers that are measured beside fastscp and are not its own code."""
