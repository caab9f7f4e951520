"""The directory: who calls, and what binds the call."""
