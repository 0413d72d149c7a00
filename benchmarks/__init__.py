"""Measures fastscp beside its peers, in one run, on one machine.

Enters: receivers that are installed here. Leaves: rates, CPU time, memory and their ratios, with spread.
Never: a figure from a run in which a single instance was refused or lost.
"""
