"""What a running receiver tells about itself: log records, metrics, health.

Enters: facts from the other packages. Leaves: lines on stderr, answers on the admin port.
Never: a decision about an association or an instance, patient data.
"""
