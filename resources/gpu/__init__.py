"""GPUs of this machine: what the driver says of them, and which library can compute on them."""
