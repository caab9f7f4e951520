import os
import anthropic
from payi.lib.helpers import payi_anthropic_url, create_headers

# API keys (use environment variables in production)
anthropic_key = os.getenv("ANTHROPIC_API_KEY")
payi_key = os.getenv("PAYI_API_KEY")

# Configure Anthropic client to use Pay-i as a proxy
client = anthropic.Anthropic(
    api_key=anthropic_key,
    base_url=payi_anthropic_url(),  # Use Pay-i's URL as the base
    default_headers={"xProxy-api-key": payi_key}  # Authenticate with Pay-i
)

# Create headers for this specific API call
request_headers = create_headers(
    use_case_name="creative_writing",
    user_id="writer_789",
    limit_ids=["creative_team_budget"],
    request_tags=["fiction", "story"]
)

# Make the API call with custom headers
message = client.messages.create(
    model="claude-3-sonnet-20240229",
    max_tokens=1500,
    messages=[
        {"role": "user", "content": "Write a short story about artificial intelligence"}
    ],
    extra_headers=request_headers  # Apply the annotations here
)

# Access Pay-i tracking information from the response
print(f"Request ID: {message.xproxy_result['request_id']}")
print(f"Cost: {message.xproxy_result['cost']}")
