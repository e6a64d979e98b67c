"""Which samples: the information that a sampling design is expected to give."""
