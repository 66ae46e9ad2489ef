"""How `gimbal serve` starts: folders that are not models, unknown fields, the demo model."""

import concurrent.futures
import json
import shutil
import struct
import subprocess

import pytest

from server_process import ServerProcess


@pytest.fixture
def serve(program, python_env, demo_model, tmp_path):
    """Breaks a copy of the demo model, then serves it; returns the line of the complaint."""

    def call(break_it, *flags):
        model = tmp_path / "broken"
        shutil.copytree(demo_model, model)
        break_it(model)
        command = [program, "serve", model, "--port", "0", "--python-env", python_env, *flags]
        # What a complaint quotes of a file need not be UTF-8.
        ran = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=60
        )
        assert ran.returncode > 0, ran.stderr
        complaints = [line for line in ran.stderr.splitlines() if "gimbal serve: " in line]
        assert len(complaints) == 1, ran.stderr
        assert "Traceback" not in ran.stderr
        return complaints[0]

    return call


def edit_json(model, name, edit):
    value = json.loads((model / name).read_text())
    edit(value)
    (model / name).write_text(json.dumps(value))


def edit_header(model, edit):
    """Rewrites the header of the weights, keeping the data."""
    path = model / "model.safetensors"
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = edit(json.loads(data[8 : 8 + length]))
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def with_tensor(name, **fields):
    def edit(header):
        header[name] = {**header[name], **fields}
        return header

    return edit


NORM = "model.norm.weight"


@pytest.mark.parametrize(
    "name, content, named",
    [
        ("config.json", None, []),
        ("config.json", b"", []),
        ("config.json", b"{", []),
        ("config.json", b"[]", []),
        ("config.json", b'{"model_type": "\xff"}', []),
        ("config.json", b"[" * 100_000, []),
        ("tokenizer.json", None, []),
        ("tokenizer.json", b"", []),
        ("tokenizer.json", b"{}", []),
        ("tokenizer.json", b'{"model": {"type": "BPE"', []),
        ("tokenizer_config.json", b"{", []),
        ("tokenizer_config.json", b'{"chat_template": "{% for x in %}"}', ["Template"]),
        ("generation_config.json", b"{", []),
        ("model.safetensors", b"", []),
        ("model.safetensors", b"\xff" * 8, ["header"]),
        ("model.safetensors", struct.pack("<Q", 10**6) + b"{}", ["header"]),
        ("model.safetensors.index.json", b'{"weight_map": {}}', []),
        ("model.safetensors.index.json", b'{"weight_map": {"a": "../../etc/passwd"}}', ["passwd"]),
        ("model.safetensors.index.json", b'{"weight_map": 5}', ["weight_map"]),
    ],
)
def test_a_broken_file_is_named(serve, name, content, named):
    def break_it(model):
        (model / name).unlink(missing_ok=True)
        if content is not None:
            (model / name).write_bytes(content)

    complaint = serve(break_it)
    for part in [name, *named]:
        assert part in complaint


def test_weights_that_are_missing_are_named(serve):
    assert "safetensors" in serve(lambda model: (model / "model.safetensors").unlink())


@pytest.mark.parametrize(
    "field, value",
    [
        ("model_type", "gpt_oss"),
        ("hidden_act", "gelu"),
        ("rope_scaling", {"rope_type": "longrope", "factor": 4}),
        ("quantization_config", {"quant_method": "awq"}),
        ("num_hidden_layers", -1),
        ("num_hidden_layers", 10**9),
        ("num_hidden_layers", "4"),
        ("num_attention_heads", 0),
        ("hidden_size", 2**40),
        ("num_experts_per_tok", 1000),
        ("vocab_size", 0),
        ("rms_norm_eps", "small"),
    ],
)
def test_a_config_field_that_cannot_be_served_is_named(serve, field, value):
    def edit(config):
        config[field] = value

    complaint = serve(lambda model: edit_json(model, "config.json", edit))
    assert "config.json" in complaint and field in complaint


@pytest.mark.parametrize(
    "edit, named",
    [
        (with_tensor(NORM, dtype="F128"), [NORM, "F128"]),
        (with_tensor(NORM, shape=[-1]), [NORM]),
        (with_tensor(NORM, shape=[3]), [NORM]),
        (with_tensor(NORM, shape=[2**62, 2**62]), [NORM]),
        (with_tensor(NORM, data_offsets=[0, 4]), []),
        (with_tensor(NORM, data_offsets=[10**12, 10**12 + 4]), [NORM]),
        (with_tensor(NORM, data_offsets=[8, 4]), [NORM]),
        (with_tensor(NORM, data_offsets="all"), [NORM]),
        (lambda header: {k: v for k, v in header.items() if k != NORM}, []),
        (lambda header: b"{" * 50_000, []),
        (lambda header: b"[]", []),
        (lambda header: b'{"\xff": 1}', []),
    ],
    ids=range(12),
)
def test_a_hostile_weights_header_is_refused(serve, edit, named):
    complaint = serve(lambda model: edit_header(model, edit))
    for part in ["model.safetensors", *named]:
        assert part in complaint


def test_truncated_weights_are_refused(serve):
    def cut(model):
        path = model / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-1000])

    assert "model.safetensors" in serve(cut)


def test_a_missing_tensor_is_named(serve):
    def edit(header):
        header["model.mnor.weight"] = header.pop(NORM)
        return header

    assert NORM in serve(lambda model: edit_header(model, edit))


def test_a_context_that_no_memory_holds_is_refused(serve):
    def edit(config):
        config["max_position_embeddings"] = 10**9

    complaint = serve(lambda model: edit_json(model, "config.json", edit))
    assert "--max-model-len" in complaint or "max_position_embeddings" in complaint


@pytest.mark.parametrize(
    "flags, named",
    [
        (("--order", "foo"), "foo"),
        (("--batch-former", "foo"), "foo"),
        (("--promote-after", "nan"), "--promote-after"),
        (("--shutdown-timeout", "nan"), "--shutdown-timeout"),
        (("--dead-after", "0"), "--dead-after"),
        (("--expert-quantum-ms", "-1"), "--expert-quantum-ms"),
        (("--gang-hold-steps", "-1"), "--gang-hold-steps"),
        (("--ms-per-priority-level", "x"), "--ms-per-priority-level"),
    ],
)
def test_a_wrong_flag_is_named_before_a_model_is_looked_for(program, tmp_path, flags, named):
    command = [program, "serve", tmp_path / "nowhere", *flags]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode > 0 and named in ran.stderr and "nowhere" not in ran.stderr


@pytest.mark.parametrize(
    "constants, named",
    [
        ({"weight_kv": -1}, "weight_kv"),
        ({"kv_limit": 1.5}, "kv_limit"),
        ({"return_probability": 2}, "return_probability"),
        ({"session_s": 0}, "session_s"),
        ({"shortlist": "many"}, "shortlist"),
        ({"waight_kv": 1}, "waight_kv"),
        ([1], "object"),
    ],
)
def test_a_wrong_constant_of_dispatch_is_named(program, tmp_path, constants, named):
    path = tmp_path / "constants.json"
    path.write_text(json.dumps(constants))
    short = ("simulate", "--engines", "2", "--num-prompts", "5")
    command = [program, *short, "--dispatch-constants", path]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode > 0 and named in ran.stderr and "constants.json" in ran.stderr
    path.write_text(json.dumps({"weight_kv": 2, "late_steps": 3, "session_s": 60}))
    assert subprocess.run(command, capture_output=True, timeout=60).returncode == 0


def test_a_folder_that_is_none_is_named(program, python_env, tmp_path):
    command = [program, "serve", tmp_path / "nowhere", "--port", "0", "--python-env", python_env]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode > 0 and "nowhere" in ran.stderr


def test_a_port_in_use_is_named(program, python_env, demo_model, server):
    port = str(server.port)
    command = [program, "serve", demo_model, "--port", port, "--python-env", python_env]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode > 0 and port in ran.stderr


def test_unknown_config_fields_are_listed_in_one_warning(start_server, demo_model, tmp_path):
    model = tmp_path / "odd"
    shutil.copytree(demo_model, model)
    extra = {"zebra_gate": 1, "apple_scale": 0.5, "auto_map": {}, "temperature": 0.7}
    edit_json(model, "config.json", lambda config: config.update(extra))
    with start_server(model=model) as server:
        warnings = [line for line in server.log if "have no effect" in line]
        assert len(warnings) == 1, server.log
        assert '"apple_scale", "zebra_gate"' in warnings[0]
        assert "auto_map" not in warnings[0] and "temperature" not in warnings[0]
    with start_server() as server:
        assert not any("have no effect" in line for line in server.log)


def test_first_starts_at_once_make_the_demo_model_once(program, python_env, tmp_path):
    env = {"XDG_CACHE_HOME": str(tmp_path / "new cache")}
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        starts = [pool.submit(ServerProcess, program, python_env, None, env=env) for _ in range(3)]
    servers = [start.result() for start in starts if not start.exception()]
    try:
        assert [start.exception() for start in starts] == [None] * 3
        for server in servers:
            server.wait_until_ready()
            assert server.name == "demo"
            assert server.complete(prompt="x", max_tokens=1)["usage"]["completion_tokens"] == 1
        makers = [server for server in servers if any("making" in line for line in server.log)]
        assert len(makers) == 1
        assert [server.end() for server in servers] == [0, 0, 0]
    finally:
        for server in servers:
            if server.process.poll() is None:
                server.process.kill()
                server.process.wait()
