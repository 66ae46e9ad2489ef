"""`gimbal serve --config FILE`."""

import json
import subprocess

import pytest


def test_a_config_file_takes_the_names_of_the_flags(start_server, tmp_path):
    file = tmp_path / "serve.ini"
    file.write_text(
        "# A comment\n"
        "served-model-name = from-file also\n"
        "max-num-seqs = 3\n"
        "max-model-len = 256\n"
        "enable-prefix-caching = false\n"
    )
    with start_server("--config", str(file)) as server:
        assert server.name == "from-file"
        models = json.loads(server.get("/v1/models")[2])["data"]
        assert [model["max_model_len"] for model in models] == [256, 256]
        prompt = "Twice the same words, twice the same work. " * 4
        for _ in range(2):
            usage = server.complete(prompt=prompt, max_tokens=1)["usage"]
            assert usage["prompt_tokens_details"]["cached_tokens"] == 0
    # The command line has the last word.
    with start_server("--config", str(file), "--served-model-name", "from-flag") as server:
        assert server.name == "from-flag"


@pytest.mark.parametrize(
    "line, named",
    [
        ("no-such-option = 1", "no-such-option"),
        ("max-num-seqs = none", "max-num-seqs"),
        ("max-num-seqs = 0", "max-num-seqs"),
    ],
)
def test_a_config_line_that_is_wrong_is_named(
    program, python_env, demo_model, tmp_path, line, named
):
    file = tmp_path / "serve.ini"
    file.write_text(line + "\n")
    command = [program, "serve", demo_model, "--port", "0", "--python-env", python_env]
    ran = subprocess.run(
        [*command, "--config", file], capture_output=True, text=True, timeout=60
    )
    assert ran.returncode > 0 and named in ran.stderr


def test_a_config_file_that_is_missing_is_named(program, python_env, demo_model):
    command = [program, "serve", demo_model, "--port", "0", "--python-env", python_env]
    command += ["--config", "no-such-file.ini"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode > 0 and "no-such-file.ini" in ran.stderr
