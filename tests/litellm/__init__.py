"""A real LiteLLM database: its own migrations, its own column types."""
