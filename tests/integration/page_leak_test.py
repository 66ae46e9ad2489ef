"""Random requests, many of them broken off, leave nothing behind."""

import asyncio
import random

from streams import all_of, completed, stream

REQUESTS = 1000
SEED = 11


def random_request(random_):
    shared = [400 + i for i in range(200)]
    prompt = shared[: random_.randrange(1, 200)]
    prompt += [random_.randrange(300, 3000) for _ in range(random_.choice([0, 3, 40, 300]))]
    fields = {
        "prompt": prompt,
        "max_tokens": random_.choice([1, 4, 16, 60]),
        "temperature": random_.choice([0, 1]),
        "n": random_.choice([1, 1, 1, 1, 3]),
        "seed": random_.randrange(1000),
        "ignore_eos": True,
        "service_tier": random_.choice(["default", "flex"]),
        "priority": random_.randrange(-2, 3),
    }
    if random_.random() < 0.1:
        fields |= {"echo": True, "logprobs": 2}
    # From before the answer's first byte to somewhere in its middle.
    leave_after = random_.choice([0, 1, 200, 600, 3000]) if random_.random() < 0.6 else None
    return fields, leave_after


def test_no_page_is_held_after_random_cancelled_requests(start_server):
    random_ = random.Random(SEED)
    flags = ("--max-model-len", "1024", "--kv-cache-memory-bytes", "4000000")
    # A pool that is too small for what runs at once: sequences are evicted and computed again.
    with start_server(*flags) as server:
        requests = [random_request(random_) for _ in range(REQUESTS)]
        answers = asyncio.run(
            all_of([stream(server.port, *request) for request in requests], at_once=64)
        )
        stayed = [answer for answer in answers if answer is not None]
        assert len(stayed) > REQUESTS / 4
        assert [answer for answer in stayed if not completed(answer)] == []
        server.wait_until_idle()
        assert server.metric("vllm:request_success_total", finished_reason="abort") > 50
        assert server.metric("vllm:num_preemptions_total") > 0
        # And all pages can be used again: a prompt as long as any.
        pages = int(server.metric("gimbal:kv_pages"))
        longest = min(pages * 16 - 32, 1000)
        assert server.complete(prompt=[500] * longest, max_tokens=4, ignore_eos=True)
        server.wait_until_idle()
