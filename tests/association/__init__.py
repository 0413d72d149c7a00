"""The association layer in this process: events, states, proposals, idleness."""
