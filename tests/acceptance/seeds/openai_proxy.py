import os
from openai import OpenAI
from payi.lib.helpers import payi_openai_url, create_headers

# API keys (use environment variables in production)
openai_key = os.getenv("OPENAI_API_KEY")
payi_key = os.getenv("PAYI_API_KEY")

# Configure OpenAI client to use Pay-i as a proxy
client = OpenAI(
    api_key=openai_key,
    base_url=payi_openai_url(),  # Use Pay-i's URL as the base
    default_headers={"xProxy-api-key": payi_key}  # Authenticate with Pay-i
)

# Create headers for this specific API call
request_headers = create_headers(
    use_case_name="document_summary",
    user_id="user123",
    limit_ids=["department_budget"],
    request_tags=["summary", "document"]
)

# Make the API call with custom headers
response = client.chat.completions.create(
    model="gpt-4",
    messages=[
        {"role": "system", "content": "Summarize the following document."},
        {"role": "user", "content": "Long document text here..."}
    ],
    extra_headers=request_headers  # Apply the annotations here
)

# Access Pay-i tracking information from the response
print(f"Request ID: {response.xproxy_result['request_id']}")
print(f"Cost: {response.xproxy_result['cost']}")
