"""Messages of the Unified Session Manager."""
