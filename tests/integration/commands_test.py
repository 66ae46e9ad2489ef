"""The commands beside `serve`, and what the command line refuses."""

import hashlib
import json
import subprocess

import pytest


@pytest.fixture
def run(program, tmp_path):
    """Runs the program; stdin, exit code, output and complaints as text."""

    def call(*arguments, stdin=""):
        return subprocess.run(
            [program, *map(str, arguments)],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            cwd=tmp_path,
        )

    return call


@pytest.fixture
def generate(run, python_env, demo_model):
    def call(*arguments, stdin=""):
        return run("generate", demo_model, *arguments, "--python-env", python_env, stdin=stdin)

    return call


def test_generate_writes_what_the_server_answers(generate, server):
    ran = generate("The quick brown fox", "--max-tokens", 32)
    assert ran.returncode == 0, ran.stderr
    served = server.complete(prompt="The quick brown fox", max_tokens=32, temperature=0)
    assert served["choices"][0]["text"].strip() in ran.stdout


def test_generate_chat_writes_what_the_server_answers(generate, server):
    ran = generate("What is a fox?", "--chat", "--max-tokens", 32)
    assert ran.returncode == 0, ran.stderr
    body = {
        "model": server.name,
        "messages": [{"role": "user", "content": "What is a fox?"}],
        "max_tokens": 32,
        "temperature": 0,
    }
    answer = json.loads(server.post("/v1/chat/completions", body)[2])
    assert answer["choices"][0]["message"]["content"].strip() in ran.stdout


def test_generate_samples_by_seed_and_reads_standard_input(generate):
    flags = ("--max-tokens", 24, "--temperature", 1, "--ignore-eos")
    first = generate("-", *flags, "--seed", 1, stdin="The quick brown fox")
    assert first.returncode == 0 and first.stdout.strip()
    assert generate("The quick brown fox", *flags, "--seed", 1).stdout == first.stdout
    assert generate("The quick brown fox", *flags, "--seed", 2).stdout != first.stdout


@pytest.mark.parametrize("family", ["mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "llama", "qwen3"])
def test_every_family_is_made_inspected_and_run(run, python_env, tmp_path, family):
    shape = ("--hidden", 64, "--layers", 2, "--heads", 4, "--vocab", 512, "--max-positions", 256)
    made = run("make-model", tmp_path / family, "--family", family, *shape)
    assert made.returncode == 0, made.stderr
    inspected = run("inspect", tmp_path / family, "--json")
    assert inspected.returncode == 0 and family in inspected.stdout, inspected.stderr
    assert isinstance(json.loads(inspected.stdout), dict)
    ran = run(
        "generate", tmp_path / family, "Hello", "--max-tokens", 4, "--python-env", python_env
    )
    assert ran.returncode == 0 and ran.stdout.strip(), ran.stderr


def test_a_seed_makes_the_same_bytes(run, tmp_path):
    def digests(folder, seed):
        shape = ("--hidden", 64, "--layers", 2, "--heads", 4, "--vocab", 512)
        made = run("make-model", tmp_path / folder, "--family", "olmoe", *shape, "--seed", seed)
        assert made.returncode == 0, made.stderr
        return {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in (tmp_path / folder).iterdir()
        }

    first = digests("a", 5)
    assert digests("b", 5) == first
    assert digests("c", 6)["model.safetensors"] != first["model.safetensors"]


def test_make_model_leaves_other_files_alone(run, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "notes.txt").write_text("keep")
    ran = run("make-model", folder, "--preset", "demo")
    assert ran.returncode != 0 and str(folder) in ran.stderr
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_inspect_json_tells_what_the_server_loads(run, demo_model):
    told = json.loads(run("inspect", demo_model, "--json").stdout)
    text = json.dumps(told)
    assert "qwen3_moe" in text and "8192" in text
    printed = run("inspect", demo_model)
    assert printed.returncode == 0 and "Qwen3Moe" in printed.stdout


@pytest.mark.parametrize(
    "arguments, named",
    [
        ([], "subcommand"),
        (["sing"], "subcommand"),
        (["serve", "--no-such-flag"], "--no-such-flag"),
        (["serve", "--port", "many"], "--port"),
        (["serve", "--port", "70000"], "port"),
        (["serve", "--block-size", "32"], "--block-size"),
        (["serve", "--max-num-seqs", "0"], "--max-num-seqs"),
        (["serve", "--default-class", "gold"], "--default-class"),
        (["serve", "MODEL", "--order", "random"], "random"),
        (["serve", "MODEL", "--batch-former", "random"], "random"),
        (["serve", "MODEL", "--dtype", "int3"], "int3"),
        (["serve", "MODEL", "--isa", "mmx"], "mmx"),
        (["serve", "MODEL", "--chat-template", "none.jinja"], "none.jinja"),
        (["serve", "MODEL", "--python-env", "no-env"], "no-env"),
        (["serve", "MODEL", "--max-model-len", "1000000"], "max-model-len"),
        (["serve", "MODEL", "--ssl-keyfile", "key.pem"], "--ssl-certfile"),
        (["serve", "MODEL", "--ssl-certfile", "a.pem", "--ssl-keyfile", "b.pem"], "a.pem"),
        (["serve", "MODEL", "--host", "no.such.host.invalid"], "no.such.host.invalid"),
        (["generate", "MODEL"], "prompt"),
        (["generate", "MODEL", "x", "--temperature", "-1"], "--temperature"),
        (["generate", "nowhere", "x"], "nowhere"),
        (["inspect", "nowhere"], "nowhere"),
        (["make-model", "out", "--preset", "huge"], "huge"),
        (["make-model", "out", "--family", "gpt"], "gpt"),
        (["make-model", "out", "--family", "olmoe", "--top-k", "1000"], "top"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_command_line_is_refused_by_name(run, demo_model, python_env, arguments, named):
    arguments = [demo_model if argument == "MODEL" else argument for argument in arguments]
    if arguments[:1] == ["serve"] and "--port" not in arguments:
        arguments += ["--port", "0"]
    if arguments[:1] in (["serve"], ["generate"]):
        arguments += ["--python-env", python_env] if "--python-env" not in arguments else []
    ran = run(*arguments)
    assert ran.returncode not in (0, -6, -11), ran.stdout + ran.stderr
    assert named in ran.stderr


def test_help_names_every_command(run):
    told = run("--help")
    assert told.returncode == 0
    for command in ("serve", "generate", "make-model", "inspect"):
        assert command in told.stdout
        assert run(command, "--help").returncode == 0
