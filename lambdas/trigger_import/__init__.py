"""The function that takes what was put into S3, and speaks for a batch until its job is started.

Enters: events, inputs of states. Leaves: rows, executions, turns. Never: a job.
"""
