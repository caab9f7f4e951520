import os
from openai import OpenAI
from payi.lib.helpers import create_headers

client = OpenAI(api_key=os.getenv("OPENAI_API_KEY"))

headers = create_headers(
    use_case_name="chat_assistant",
    user_id="customer_456",
    limit_ids=["monthly_usage"],
    request_tags=["chat", "streaming"]
)

# Stream with annotations
stream = client.chat.completions.create(
    model="gpt-4",
    messages=[{"role": "user", "content": "Write a short story about a robot."}],
    stream=True,
    extra_headers=headers  # Add annotations here
)

# Important: Fully consume the stream
for chunk in stream:
    if chunk.choices[0].delta.content:
        print(chunk.choices[0].delta.content, end="")
