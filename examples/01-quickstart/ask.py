"""Ask a model something, and see the answer grow: ask.py http://127.0.0.1:8888/v1 smollm2 "..."."""

import sys

from openai import OpenAI

base_url, model, question = sys.argv[1:]
# The key is needed by the client, not by the gateway (unless gateway.keys_file is set).
client = OpenAI(base_url=base_url, api_key="none")
messages = [{"role": "user", "content": question}]
for chunk in client.chat.completions.create(
    model=model, messages=messages, stream=True, max_tokens=120
):
    print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
