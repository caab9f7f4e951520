import anthropic
from payi.lib.helpers import create_headers

client = anthropic.Anthropic(api_key="your-anthropic-api-key")

headers = create_headers(
    use_case_name="research_assistant",
    user_id="researcher_123",
    limit_ids=["research_budget"],
    request_tags=["research", "tools"]
)

# Define a tool
calculator_tool = {
    "name": "calculator",
    "description": "Evaluate mathematical expressions.",
    "input_schema": {
        "type": "object",
        "properties": {
            "expression": {
                "type": "string",
                "description": "The mathematical expression to evaluate"
            }
        },
        "required": ["expression"]
    }
}

# Use with system prompt and tools
message = client.messages.create(
    model="claude-3-opus-20240229",
    system="You are a helpful research assistant with access to a calculator.",
    messages=[
        {"role": "user", "content": "What is the square root of 144 multiplied by the cube root of 27?"}
    ],
    tools=[calculator_tool],
    max_tokens=1000,
    extra_headers=headers  # Add annotations here
)
