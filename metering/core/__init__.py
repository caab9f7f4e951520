"""The rules: pure, no clock, no await."""
