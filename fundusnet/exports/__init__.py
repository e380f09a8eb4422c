"""Networks written for use without fundusnet."""
