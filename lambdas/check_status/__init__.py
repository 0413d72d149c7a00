"""The function that follows an import job to its end.

Enters: a batch that has a job. Leaves: what became of each instance. Never: a job.
"""
