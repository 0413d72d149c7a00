"""AWS on this machine: what `fastscp local` runs beside the receiver.

Enters: nothing. Leaves: nothing; its modules are imported one by one. Never: imported by the receiver, which does not need moto.
"""
