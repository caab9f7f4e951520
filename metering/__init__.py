"""xproxy: knows and limits what LLM calls cost."""

__version__ = "0.1.0"
