"""LiteLLM's management of virtual keys, teams, users, customers and budgets, on what this service
has: keys, limits and attachments. `docs/litellm.md` says what is what.
"""
