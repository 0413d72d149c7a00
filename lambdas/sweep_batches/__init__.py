"""The function that goes on with whatever was left behind.

Enters: markers, rows. Leaves: manifests, executions, metrics. Never: a job, another attempt.
"""
