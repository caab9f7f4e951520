"""One vendor's form in another's: chat completions and messages, both ways. Pure."""
