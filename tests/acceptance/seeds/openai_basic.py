import os
from openai import OpenAI
from payi.lib.helpers import create_headers

# Initialize OpenAI client
client = OpenAI(api_key=os.getenv("OPENAI_API_KEY"))

# Create headers with your annotations
request_headers = create_headers(
    use_case_name="document_summarization",
    user_id="user_123",
    limit_ids=["monthly_budget"],
    request_tags=["summary", "document"]
)

# Apply the headers to your API call
response = client.chat.completions.create(
    model="gpt-4",
    messages=[
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "Summarize this document for me..."}
    ],
    extra_headers=request_headers  # Apply the annotations here
)
