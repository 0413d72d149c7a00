"""Real clients, real files: what arrives is what was sent."""
