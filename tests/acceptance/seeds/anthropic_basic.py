import os
import anthropic
from payi.lib.helpers import create_headers

# Initialize Anthropic client
client = anthropic.Anthropic(api_key=os.getenv("ANTHROPIC_API_KEY"))

# Create headers with your annotations
request_headers = create_headers(
    use_case_name="content_generation",
    user_id="user_456",
    limit_ids=["monthly_anthropic_budget"],
    request_tags=["creative", "blog"]
)

# Apply the headers to your API call
message = client.messages.create(
    model="claude-3-opus-20240229",
    max_tokens=1000,
    messages=[
        {"role": "user", "content": "Write a blog post about AI safety"}
    ],
    extra_headers=request_headers  # Apply the annotations here
)
