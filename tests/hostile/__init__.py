"""Peers that break the rules, stall, lie and leave."""
