"""/v1/completions, /v1/models, /tokenize and /detokenize through the official client."""

import concurrent.futures
import json

import pytest

PROMPT = "The quick brown fox"


def text_of(stream):
    return "".join(chunk.choices[0].text for chunk in stream if chunk.choices)


def tokens_of(server, text):
    status, _, body = server.post("/tokenize", {"model": server.name, "prompt": text})
    assert status == 200, body
    return json.loads(body)["tokens"]


def test_lists_the_model(client, server):
    (model,) = client.models.list().data
    assert model.id == server.name == "demo"
    assert client.models.retrieve("demo").id == "demo"


def test_completes_a_string(complete):
    answer = complete(PROMPT)
    (choice,) = answer.choices
    assert choice.text and choice.finish_reason == "length" and choice.index == 0
    assert answer.usage.completion_tokens == 16
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 16
    assert answer.object == "text_completion" and answer.id.startswith("cmpl-")


def test_a_list_of_prompts_answers_each_like_alone(complete):
    prompts = [PROMPT, "Hello", "1 + 1 ="]
    together = complete(prompts).choices
    assert [choice.index for choice in together] == [0, 1, 2]
    assert [choice.text for choice in together] == [
        complete(prompt).choices[0].text for prompt in prompts
    ]


def test_token_ids_are_the_same_prompt_as_their_text(complete, server):
    ids = tokens_of(server, PROMPT)
    by_text = complete(PROMPT)
    assert by_text.usage.prompt_tokens == len(ids)
    assert complete(ids).choices[0].text == by_text.choices[0].text
    assert [choice.text for choice in complete([ids, ids]).choices] == [by_text.choices[0].text] * 2


def test_n_choices_of_a_seed_differ_and_come_again(complete):
    def sample():
        answer = complete(PROMPT, n=3, temperature=1, seed=7)
        assert [choice.index for choice in answer.choices] == [0, 1, 2]
        assert answer.usage.completion_tokens == 3 * 16
        return [choice.text for choice in answer.choices]

    first = sample()
    assert len(set(first)) == 3
    assert sample() == first
    # Choice 0 does not depend on how many were asked for; another seed is another text.
    assert complete(PROMPT, temperature=1, seed=7).choices[0].text == first[0]
    assert complete(PROMPT, temperature=1, seed=8).choices[0].text != first[0]


def test_n_choices_stream_interleaved_to_the_same_texts(complete):
    whole = [choice.text for choice in complete(PROMPT, n=3, temperature=1, seed=7).choices]
    texts = ["", "", ""]
    for chunk in complete(PROMPT, n=3, temperature=1, seed=7, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    assert texts == whole


def test_echo_puts_the_prompt_before_the_text(complete):
    plain = complete(PROMPT).choices[0].text
    assert complete(PROMPT, echo=True).choices[0].text == PROMPT + plain
    assert text_of(complete(PROMPT, echo=True, stream=True)) == PROMPT + plain


def test_logprobs_rank_the_greedy_token_first(complete):
    choice = complete(PROMPT, logprobs=3).choices[0]
    logprobs = choice.logprobs
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.top_logprobs) == 16
    assert "".join(logprobs.tokens) == choice.text
    assert logprobs.text_offset[0] == 0
    for chosen, top in zip(logprobs.token_logprobs, logprobs.top_logprobs):
        assert 3 <= len(top) <= 4 and max(top.values()) == chosen <= 0


def test_echoed_logprobs_cover_a_cached_prompt(complete, server):
    prompt = "All of these words stand in pages that the cache holds. " * 4
    ids = tokens_of(server, prompt)
    complete(prompt)
    first = complete(prompt, echo=True, logprobs=1, max_tokens=2).choices[0].logprobs
    again = complete(prompt, echo=True, logprobs=1, max_tokens=2).choices[0].logprobs
    assert len(first.tokens) == len(ids) + 2
    assert first.token_logprobs[0] is None and None not in first.token_logprobs[1:]
    assert first == again


@pytest.mark.parametrize("stream", [False, True])
def test_stop_strings_end_the_text_before_them(complete, stream):
    whole = complete(PROMPT).choices[0].text
    stop = whole[6:9]
    expected = whole[: whole.index(stop)]
    answer = complete(PROMPT, stop=["never to be found", stop], stream=stream)
    if stream:
        chunks = [chunk.choices[0] for chunk in answer]
        text, reason = "".join(chunk.text for chunk in chunks), chunks[-1].finish_reason
    else:
        text, reason = answer.choices[0].text, answer.choices[0].finish_reason
    assert (text, reason) == (expected, "stop")


def test_streamed_text_is_the_whole_text(complete):
    for fields in ({}, {"temperature": 1.5, "seed": 3}, {"max_tokens": 200}):
        assert text_of(complete(PROMPT, stream=True, **fields)) == complete(
            PROMPT, **fields
        ).choices[0].text


def test_include_usage_adds_one_chunk_without_choices(complete):
    chunks = list(complete(PROMPT, stream=True, stream_options={"include_usage": True}))
    assert all(chunk.usage is None and chunk.choices for chunk in chunks[:-1])
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 16


def test_a_repeated_long_prompt_is_cached(complete):
    prompt = "Once upon a time there was a cache. " * 20
    first, again = complete(prompt), complete(prompt)
    assert first.usage.prompt_tokens_details.cached_tokens == 0
    cached = again.usage.prompt_tokens_details.cached_tokens
    # All full pages but for the last token, which is always computed.
    assert again.usage.prompt_tokens - 17 <= cached < again.usage.prompt_tokens
    assert cached % 16 == 0
    assert again.choices[0].text == first.choices[0].text
    salted = complete(prompt, extra_body={"cache_salt": "mine alone"})
    assert salted.usage.prompt_tokens_details.cached_tokens == 0
    assert salted.choices[0].text == first.choices[0].text


def test_greedy_text_is_the_same_alone_and_under_load(complete):
    alone = complete(PROMPT, max_tokens=64).choices[0].text
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        others = [
            pool.submit(complete, f"{i} " * (20 * i + 1), temperature=1, max_tokens=40 + i)
            for i in range(12)
        ]
        same = [pool.submit(complete, PROMPT, max_tokens=64) for _ in range(4)]
        assert [answer.result().choices[0].text for answer in same] == [alone] * 4
        assert all(answer.result().usage.completion_tokens for answer in others)


def test_service_tiers_and_priorities_are_accepted(complete):
    plain = complete(PROMPT).choices[0].text
    for extra in (
        {"service_tier": "auto"},
        {"service_tier": "default"},
        {"service_tier": "flex"},
        {"priority": -3},
        {"priority": 5, "service_tier": "flex"},
    ):
        assert complete(PROMPT, extra_body=extra).choices[0].text == plain


def test_sampling_fields_of_vllm_take_effect(complete):
    plain = complete(PROMPT).choices[0].text
    top_1 = complete(PROMPT, temperature=2, extra_body={"top_k": 1})
    assert top_1.choices[0].text == plain
    assert complete(PROMPT, temperature=2, top_p=1e-6).choices[0].text == plain
    assert complete(PROMPT, temperature=2, extra_body={"min_p": 1.0}).choices[0].text == plain
    stopping = {"stop_token_ids": [300]}
    stopped = complete(PROMPT, logit_bias={"300": 100}, extra_body=stopping)
    assert stopped.choices[0].finish_reason == "stop" and stopped.usage.completion_tokens == 1
    later = complete(PROMPT, logit_bias={"300": 100}, extra_body={**stopping, "min_tokens": 5})
    assert later.choices[0].finish_reason == "stop" and later.usage.completion_tokens >= 5


def test_unknown_fields_are_counted_and_have_no_effect(complete, server):
    before = server.metric("gimbal:unknown_request_fields_total")
    plain = complete(PROMPT).choices[0].text
    assert complete(PROMPT, extra_body={"a_future_field": {"x": 1}}).choices[0].text == plain
    assert server.metric("gimbal:unknown_request_fields_total") == before + 1


@pytest.mark.parametrize("text", ["Hello, world!", " 東京タワー\n\tñandú 🦊 é", "a" * 500])
def test_detokenize_undoes_tokenize(server, text):
    ids = tokens_of(server, text)
    assert ids
    status, _, body = server.post("/detokenize", {"model": server.name, "tokens": ids})
    assert (status, json.loads(body)["prompt"]) == (200, text)


def test_emoji_streams_in_whole_characters(complete, server):
    ids = tokens_of(server, "🦊")
    # Forced through the logit bias: a token that is part of a character at most.
    chunks = [
        chunk.choices[0].text
        for chunk in complete(PROMPT, stream=True, logit_bias={str(ids[0]): 100}, max_tokens=8)
    ]
    for chunk in chunks:
        chunk.encode("utf-8")
    whole = complete(PROMPT, logit_bias={str(ids[0]): 100}, max_tokens=8).choices[0].text
    assert "".join(chunks) == whole
