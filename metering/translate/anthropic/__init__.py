"""For OpenAI's clients of Anthropic: chat completions as messages, completions as complete."""
