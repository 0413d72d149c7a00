"""Tools that stand beside the receiver in tests: a scripted sender, a wire tap, the receiver in its own process."""
