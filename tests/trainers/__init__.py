"""Every export read by the trainers' own code: `make trainers` (see `__main__`)."""
