"""Training: torch, transformers, peft and bitsandbytes are imported only below this package."""

import logging

# It is imported by transformers' Trainer in any case, and tells of optional kernels that are absent
# and of casts that it does anyway: notes for developers.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
