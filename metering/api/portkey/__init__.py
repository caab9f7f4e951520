"""Portkey's nouns."""
