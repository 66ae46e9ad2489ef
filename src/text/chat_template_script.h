#pragma once

namespace gimbal::text {

// The Python side of ChatTemplate. Defines compile_template(source, special_tokens_json) and
// render_template(template, messages_json, kwargs_json, add_generation_prompt, max_bytes,
// seconds), which returns the prompt as UTF-8 or raises; KwargsError for the kwargs' own faults.
inline constexpr const char* kChatTemplateScript = R"python(
import json
import threading
import time
from datetime import datetime

import jinja2
from jinja2 import nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

RESERVED = ("messages", "tools", "documents", "add_generation_prompt")


class KwargsError(ValueError):
    pass


class Bounds(threading.local):
    """What the rendering that runs on this thread may still use."""

    deadline = float("inf")
    max_bytes = 1 << 62

    def check_time(self):
        if time.monotonic() > self.deadline:
            raise TemplateError("the chat template took too long")

    def check_size(self, size):
        if size > self.max_bytes:
            raise TemplateError(f"the prompt is longer than {self.max_bytes} bytes")


BOUNDS = Bounds()


class Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(["*", "**"])

    def call(self, context, function, /, *args, **kwargs):
        BOUNDS.check_time()
        return super().call(context, function, *args, **kwargs)

    def getattr(self, obj, attribute):
        BOUNDS.check_time()
        return super().getattr(obj, attribute)

    def getitem(self, obj, argument):
        BOUNDS.check_time()
        return super().getitem(obj, argument)

    def call_binop(self, context, operator, left, right):
        BOUNDS.check_time()
        if operator == "*":
            for sequence, count in ((left, right), (right, left)):
                if isinstance(sequence, (str, list, tuple)) and isinstance(count, int):
                    BOUNDS.check_size(len(sequence) * count)
        elif isinstance(left, int) and isinstance(right, int):
            BOUNDS.check_size(left.bit_length() * right // 8)
        return super().call_binop(context, operator, left, right)


class Generation(Extension):
    """{% generation %} marks the assistant's text for training; here it is transparent."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.Scope(body, lineno=line)


def raise_exception(message):
    raise TemplateError(message)


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                      sort_keys=sort_keys)


def compile_template(source, special_tokens_json):
    environment = Environment(trim_blocks=True, lstrip_blocks=True,
                              extensions=[Generation, "jinja2.ext.loopcontrols"])
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment.from_string(source, globals=json.loads(special_tokens_json))


def parse_kwargs(kwargs_json):
    try:
        kwargs = json.loads(kwargs_json) if kwargs_json else {}
    except (ValueError, RecursionError) as error:
        raise KwargsError(f"chat_template_kwargs must be JSON: {error}") from None
    if not isinstance(kwargs, dict):
        raise KwargsError("chat_template_kwargs must be an object")
    for name in RESERVED:
        if name in kwargs:
            raise KwargsError(f"chat_template_kwargs must not hold {name}")
    return kwargs


def render_template(template, messages_json, kwargs_json, add_generation_prompt, max_bytes,
                    seconds):
    kwargs = parse_kwargs(kwargs_json)
    messages = json.loads(messages_json)
    if not isinstance(messages, list):
        raise TemplateError("messages must be a list")
    BOUNDS.deadline = time.monotonic() + seconds
    BOUNDS.max_bytes = max_bytes
    size = 0
    chunks = []
    for chunk in template.generate(messages=messages, tools=None, documents=None,
                                   add_generation_prompt=add_generation_prompt, **kwargs):
        encoded = chunk.encode()
        size += len(encoded)
        BOUNDS.check_time()
        BOUNDS.check_size(size)
        chunks.append(encoded)
    return b"".join(chunks)
)python";

}  // namespace gimbal::text
