"""The function that starts the import job of a batch.

Enters: a batch that has its turn. Leaves: a job, on two rows. Never: two jobs for one attempt.
"""
