"""What happens to instances when S3, the network or the receiver itself fails at the worst moment."""
