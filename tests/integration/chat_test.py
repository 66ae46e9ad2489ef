"""/v1/chat/completions through the official client."""

import openai
import pytest

QUESTION = "What is a fox?"


def test_answers_a_message(chat):
    answer = chat(QUESTION)
    (choice,) = answer.choices
    assert choice.message.role == "assistant" and choice.message.content
    assert choice.finish_reason == "length"
    assert answer.usage.completion_tokens == 16
    assert answer.object == "chat.completion" and answer.id.startswith("chatcmpl-")


def test_max_completion_tokens_bounds_the_answer(client, server):
    answer = client.chat.completions.create(
        model=server.name,
        messages=[{"role": "user", "content": QUESTION}],
        max_completion_tokens=3,
    )
    assert answer.usage.completion_tokens == 3


@pytest.mark.parametrize("fields", [{}, {"temperature": 1, "seed": 5}, {"max_tokens": 150}])
def test_streamed_text_is_the_whole_text(chat, fields):
    chunks = list(chat(QUESTION, stream=True, **fields))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == "length"
    assert all(chunk.object == "chat.completion.chunk" for chunk in chunks)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == chat(QUESTION, **fields).choices[0].message.content


def test_include_usage_adds_one_chunk_without_choices(chat):
    chunks = list(chat(QUESTION, stream=True, stream_options={"include_usage": True}))
    assert all(chunk.usage is None and chunk.choices for chunk in chunks[:-1])
    assert chunks[-1].choices == []
    assert chunks[-1].usage == chat(QUESTION).usage.model_copy(
        update={"prompt_tokens_details": chunks[-1].usage.prompt_tokens_details}
    )


def test_logprobs_carry_tokens_bytes_and_alternatives(chat):
    choice = chat(QUESTION, logprobs=True, top_logprobs=4).choices[0]
    entries = choice.logprobs.content
    assert len(entries) == 16
    assert b"".join(bytes(entry.bytes) for entry in entries).decode(
        errors="replace"
    ) == choice.message.content
    for entry in entries:
        ranked = [top.logprob for top in entry.top_logprobs]
        assert len(ranked) == 4 and ranked == sorted(ranked, reverse=True)
        assert entry.top_logprobs[0].token == entry.token and ranked[0] == entry.logprob <= 0
    streamed = chat(QUESTION, logprobs=True, top_logprobs=4, stream=True)
    assert [
        entry
        for chunk in streamed
        if chunk.choices[0].logprobs
        for entry in chunk.choices[0].logprobs.content
    ] == entries


def test_a_system_message_is_part_of_the_prompt(chat):
    plain = chat(QUESTION)
    system = chat(
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}]
    )
    assert system.usage.prompt_tokens > plain.usage.prompt_tokens
    assert system.choices[0].message.content != plain.choices[0].message.content


def test_text_parts_are_joined(chat):
    parts = [{"type": "text", "text": "What is "}, {"type": "text", "text": "a fox?"}]
    joined = chat([{"role": "user", "content": parts}])
    assert joined.usage.prompt_tokens > 0
    one = chat([{"role": "user", "content": [{"type": "text", "text": QUESTION}]}])
    assert one.choices[0].message.content == chat(QUESTION).choices[0].message.content


def test_a_conversation_continues_from_the_cache(chat):
    opening = [{"role": "user", "content": "Tell me of foxes. " * 20}]
    first = chat(opening).choices[0].message.content
    more = opening + [
        {"role": "assistant", "content": first},
        {"role": "user", "content": "And then?"},
    ]
    assert chat(more).usage.prompt_tokens_details.cached_tokens >= 16


def test_stop_and_n_and_seed(chat):
    whole = chat(QUESTION).choices[0].message.content
    stopped = chat(QUESTION, stop=whole[6:9]).choices[0]
    assert stopped.finish_reason == "stop"
    assert stopped.message.content == whole[: whole.index(whole[6:9])]
    several = [
        [choice.message.content for choice in chat(QUESTION, n=3, temperature=1, seed=1).choices]
        for _ in range(2)
    ]
    assert several[0] == several[1] and len(set(several[0])) == 3


def test_values_that_ask_for_nothing_are_accepted(chat):
    answer = chat(
        QUESTION,
        extra_body={"tools": [], "response_format": {"type": "text"}, "functions": None},
        user="someone",
    )
    assert answer.choices[0].message.content == chat(QUESTION).choices[0].message.content


@pytest.mark.parametrize(
    "param, value",
    [
        ("tools", [{"type": "function", "function": {"name": "f", "parameters": {}}}]),
        ("response_format", {"type": "json_object"}),
        ("n", 1000),
        ("top_logprobs", 21),
        ("temperature", "hot"),
        ("service_tier", "gold"),
        ("messages", "not a list"),
        ("max_tokens", -1),
    ],
)
def test_what_cannot_be_served_is_refused_by_name(chat, param, value):
    with pytest.raises(openai.BadRequestError) as refused:
        chat(QUESTION, logprobs=True, extra_body={param: value})
    assert refused.value.param == param, refused.value
    assert refused.value.type == "invalid_request_error"
    assert param in refused.value.message


def test_images_are_refused(chat):
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    with pytest.raises(openai.BadRequestError, match="image_url") as refused:
        chat([{"role": "user", "content": [part]}])
    assert refused.value.param.startswith("messages")
