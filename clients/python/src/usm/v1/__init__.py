"""Messages and stubs of the package ``usm.v1``, written by generate.py."""
