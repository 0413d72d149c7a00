"""The function that takes what was put into S3, and speaks for a batch until its job is started."""
