"""A thousand streams at once, with the default limits."""

import asyncio

from streams import all_of, completed, stream

MB = 1_000_000


def test_a_thousand_streams_complete_in_bounded_memory(start_server):
    with start_server() as server:
        loaded = server.memory_bytes("VmRSS")
        requests = [
            {"prompt": [300 + i, 301, 302] * 4, "max_tokens": 12, "ignore_eos": True}
            for i in range(1000)
        ]
        answers = asyncio.run(
            all_of([stream(server.port, request) for request in requests], at_once=1000)
        )
        unfinished = [answer for answer in answers if not completed(answer)]
        assert unfinished == []
        assert server.memory_bytes("VmHWM") - loaded < 600 * MB
        server.wait_until_idle()
        assert server.metric("vllm:generation_tokens_total") == 1000 * 12
        assert server.metric("gimbal:http_connections") <= 2
