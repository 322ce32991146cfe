"""Turn a text into a vector: embed.py http://127.0.0.1:8888/v1 embed "..."."""

import sys

from openai import OpenAI

base_url, model, text = sys.argv[1:]
client = OpenAI(base_url=base_url, api_key="none")
vector = client.embeddings.create(model=model, input=text).data[0].embedding
print(f"{len(vector)} numbers: {vector[:3]} ...")
