"""A thousand streams at once, with the default limits; and clients that never read."""

import asyncio
import json
import socket

from server_process import wait_for
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
        wait_for(lambda: server.metric("gimbal:http_connections") <= 2, "connections to close")


def test_clients_that_never_read_are_cut_off_and_hold_no_memory(start_server):
    with start_server() as server:
        loaded = server.memory_bytes("VmRSS")
        body = json.dumps(
            {
                "model": server.name,
                "prompt": "Louder",
                "stream": True,
                "n": 128,
                "max_tokens": 2000,
                "ignore_eos": True,
                "logprobs": 20,  # about a kilobyte a token
            }
        ).encode()
        readers = []
        for _ in range(2):
            reader = socket.socket()
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.connect(("127.0.0.1", server.port))
            reader.sendall(
                b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
                b"Content-Length: %d\r\n\r\n" % len(body) + body
            )
            readers.append(reader)
        wait_for(
            lambda: server.metric("vllm:request_success_total", finished_reason="abort") == 256,
            "the streams to be cut off",
        )
        # Others are served meanwhile and afterwards.
        assert server.complete(prompt="x", max_tokens=4, ignore_eos=True)
        server.wait_until_idle()
        assert server.memory_bytes("VmHWM") - loaded < 300 * MB
        for reader in readers:
            reader.close()
