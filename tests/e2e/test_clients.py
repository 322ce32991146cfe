"""The real `openai` and `anthropic` clients, unchanged, in front of each engine."""

from __future__ import annotations

from collections.abc import Iterator

import anthropic
import openai
import pytest

from e2e.lab import Lab

ANY_KEY = "not-needed"
MOST = 8
"""Tokens of an answer. A model of random weights may end before them, and llama-server sends no
event before a whole character has come."""


@pytest.fixture
def served(real: Lab) -> Lab:
    """Two models, so that each request has to say which one it means."""
    real.write(
        {
            "tiny": {"aliases": ["gpt-tiny", "claude-tiny"]},
            "embed": {"args": {"embeddings": True, "pooling": "mean"}},
        }
    )
    real.apply()
    return real


@pytest.fixture
def by_openai(served: Lab) -> Iterator[openai.OpenAI]:
    base = f"http://127.0.0.1:{served.listen}/v1"
    with openai.OpenAI(base_url=base, api_key=ANY_KEY, max_retries=0) as client:
        yield client


@pytest.fixture
def by_anthropic(served: Lab) -> Iterator[anthropic.Anthropic]:
    base = f"http://127.0.0.1:{served.listen}"
    with anthropic.Anthropic(base_url=base, api_key=ANY_KEY, max_retries=0) as client:
        yield client


def test_openai(by_openai: openai.OpenAI) -> None:
    """Lists, chat, streams, responses, embeddings; errors are those that its users catch."""
    client = by_openai
    assert sorted(model.id for model in client.models.list()) == ["embed", "tiny"]
    assert client.models.retrieve("gpt-tiny").id == "tiny"
    whole = client.chat.completions.create(
        model="gpt-tiny",
        messages=[{"role": "user", "content": "hello"}],
        max_tokens=MOST,
    )
    assert whole.usage
    assert 0 < whole.usage.completion_tokens <= MOST
    with client.chat.completions.create(
        model="tiny",
        messages=[{"role": "user", "content": "hello"}],
        max_tokens=MOST,
        stream=True,
        stream_options={"include_usage": True},
    ) as stream:
        chunks = list(stream)
    usage = chunks[-1].usage
    assert usage
    assert 0 < usage.completion_tokens <= MOST
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    assert reasons[-1] in {"length", "stop"}
    text = client.completions.create(model="tiny", prompt="hello", max_tokens=MOST)
    assert text.usage
    assert 0 < text.usage.completion_tokens <= MOST
    response = client.responses.create(model="tiny", input="hello", max_output_tokens=MOST)
    assert response.usage
    assert 0 < response.usage.output_tokens <= MOST
    events = [
        event.type
        for event in client.responses.create(
            model="tiny", input="hello", max_output_tokens=MOST, stream=True
        )
    ]
    assert events[-1] == "response.completed"
    vectors = client.embeddings.create(model="embed", input=["hello", "there"]).data
    assert [len(one.embedding) > 0 for one in vectors] == [True, True]
    with pytest.raises(openai.NotFoundError, match="unknown model 'gpt-5'; known models: embed"):
        client.responses.create(model="gpt-5", input="hello")
    with pytest.raises(openai.BadRequestError, match="name a model"):
        client.completions.create(model="", prompt="hello")


def test_anthropic(by_anthropic: anthropic.Anthropic) -> None:
    client = by_anthropic
    whole = client.messages.create(
        model="claude-tiny",
        max_tokens=MOST,
        messages=[{"role": "user", "content": "hello"}],
    )
    assert 0 < whole.usage.output_tokens <= MOST
    with client.messages.create(
        model="tiny",
        max_tokens=MOST,
        messages=[{"role": "user", "content": "hello"}],
        stream=True,
    ) as stream:
        kinds = [event.type for event in stream]
    assert kinds[-1] == "message_stop"
    counted = client.messages.count_tokens(
        model="tiny", messages=[{"role": "user", "content": "hello"}]
    )
    assert counted.input_tokens > 0
    with pytest.raises(anthropic.NotFoundError, match="unknown model 'claude-5'"):
        client.messages.count_tokens(
            model="claude-5", messages=[{"role": "user", "content": "hello"}]
        )


def test_a_model_that_is_away_is_what_clients_try_again(
    served: Lab, by_openai: openai.OpenAI, by_anthropic: anthropic.Anthropic
) -> None:
    """503 with `Retry-After`: both take it for an error of the server that passes."""
    served.run("stop", "tiny")
    with pytest.raises(openai.InternalServerError, match="suspended") as refused:
        by_openai.completions.create(model="tiny", prompt="hello")
    assert refused.value.status_code == 503
    with pytest.raises(anthropic.InternalServerError, match="suspended"):
        by_anthropic.messages.create(
            model="tiny",
            max_tokens=MOST,
            messages=[{"role": "user", "content": "hello"}],
        )
    assert by_openai.embeddings.create(model="embed", input="hello").data
