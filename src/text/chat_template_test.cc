#include "text/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "text/test_tokenizers.h"

namespace gimbal::text {
namespace {

using testing::HasSubstr;
using testing::MatchesRegex;

constexpr const char* kHello = R"([{"role": "user", "content": "Hello"}])";

// Renders a template that comes as chat_template.jinja, with messages of one user turn.
Result<std::string> render(const std::string& source, std::string_view messages = kHello,
                           const RenderOptions& options = {}) {
  const TemporaryFolder folder;
  folder.write("chat_template.jinja", source);
  auto loaded = ChatTemplate::load(test_python(), folder.path());
  if (!loaded.ok()) return loaded.error();
  return (*loaded)->render(messages, options);
}

TEST(ChatTemplate, RendersAsTransformersDoes) {
  const TemporaryFolder folder;
  // Block lines vanish (trim_blocks, lstrip_blocks), tokens may be strings or objects.
  folder.write("tokenizer_config.json", R"({
    "bos_token": {"content": "<s>", "lstrip": false}, "eos_token": "</s>", "pad_token": null,
    "chat_template": "{{ bos_token }}{% for message in messages %}\n  {% if message.role == 'user' %}\n[INST] {{ message['content'] | trim }} [/INST]\n  {% else %}\n{{ message.content + eos_token }}\n  {% endif %}\n{% endfor %}\n{% if add_generation_prompt %}\nA:{% endif %}\n"})");
  const auto loaded = ChatTemplate::load(test_python(), folder.path());
  ASSERT_TRUE(loaded.ok()) << loaded.error().message;
  EXPECT_EQ((*loaded)->bos_token(), "<s>");
  EXPECT_EQ((*loaded)->eos_token(), "</s>");
  const char* messages =
      R"([{"role":"user","content":" Hi "},{"role":"assistant","content":"Yes 你"}])";
  EXPECT_EQ(*(*loaded)->render(messages), "<s>[INST] Hi [/INST]\nYes 你</s>\nA:");
  EXPECT_EQ(*(*loaded)->render(messages, {.add_generation_prompt = false}),
            "<s>[INST] Hi [/INST]\nYes 你</s>\n");
}

TEST(ChatTemplate, FiltersAndGlobalsAreTransformers) {
  // Not escaped as HTML, and no ASCII escapes.
  EXPECT_EQ(*render("{{ messages | tojson }}", R"([{"b":"<é>&'","a":1}])"),
            R"([{"b": "<é>&'", "a": 1}])");
  EXPECT_EQ(*render("{{ messages[0] | tojson(indent=1, sort_keys=true) }}", R"([{"b":1,"a":2}])"),
            "{\n \"a\": 2,\n \"b\": 1\n}");
  EXPECT_EQ(
      *render("{% for i in range(9) %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}"),
      "012");
  EXPECT_EQ(*render("{% generation %}{{ messages[0].content }}{% endgeneration %}!"), "Hello!");
  EXPECT_THAT(*render("{{ strftime_now('%Y-%m-%d') }}"),
              MatchesRegex("[0-9]{4}-[0-9]{2}-[0-9]{2}"));
  EXPECT_EQ(*render("{{ tools is none }} {{ documents is none }}"), "True True");
  EXPECT_EQ(*render("{% set ns = namespace(n=1) %}{% set ns.n = ns.n + 1 %}{{ ns.n }}"), "2");
}

TEST(ChatTemplate, ListsOfTemplatesFilesAndTheOperatorsFile) {
  const TemporaryFolder folder;
  folder.write(
      "tokenizer_config.json",
      R"({"chat_template": [{"name":"tool_use","template":"T"},{"name":"default","template":"D"}]})");
  EXPECT_EQ(*(*ChatTemplate::load(test_python(), folder.path()))->render(kHello), "D");
  folder.write("chat_template.jinja", "J");
  EXPECT_EQ(*(*ChatTemplate::load(test_python(), folder.path()))->render(kHello), "J");
  const std::string given = folder.write("given.jinja", "G");
  EXPECT_EQ(*(*ChatTemplate::load(test_python(), folder.path(), given))->render(kHello), "G");
  const auto missing = ChatTemplate::load(test_python(), folder.path(), "/nonexistent.jinja");
  ASSERT_FALSE(missing.ok());
  EXPECT_THAT(missing.error().message, HasSubstr("/nonexistent.jinja"));
}

TEST(ChatTemplate, KwargsReachTheTemplateAndMayReplaceTokensOnly) {
  const std::string source = "{{ enable_thinking }}{{ bos_token }}";
  RenderOptions options{.kwargs_json = R"({"enable_thinking": false, "bos_token": "B"})"};
  EXPECT_EQ(*render(source, kHello, options), "FalseB");
  for (const char* kwargs : {R"({"messages": []})", R"({"add_generation_prompt": true})", "[]", "{",
                             "7", R"({"tools": []})"}) {
    options.kwargs_json = kwargs;
    const auto refused = render(source, kHello, options);
    ASSERT_FALSE(refused.ok()) << kwargs;
    EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(refused.error().field, "chat_template_kwargs");
  }
}

TEST(ChatTemplate, WhatTheTemplateRefusesIsAnErrorOfMessages) {
  for (const char* source :
       {"{{ raise_exception('roles must alternate') }}", "{{ messages[0].content + 1 }}",
        "{{ messages[5].content.x }}", "{{ messages[0].content.__class__.__mro__ }}",
        "{% set _ = messages.append(1) %}", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{{ 1 / 0 }}"}) {
    const auto refused = render(source);
    ASSERT_FALSE(refused.ok()) << source;
    EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(refused.error().field, "messages");
  }
  EXPECT_THAT(render("{{ raise_exception('roles must alternate') }}").error().message,
              HasSubstr("roles must alternate"));
}

TEST(ChatTemplate, MessagesThatAreNotAListOrNotUtf8AreErrors) {
  const std::string deep(200'000, '[');
  for (const std::string& messages :
       {std::string("{}"), std::string("\"text\""), std::string("["), std::string(), deep,
        std::string("[\"\xFF\"]"), std::string(R"(["\ud800"])")}) {
    const auto refused = render("{{ messages[0] }}", messages);
    ASSERT_FALSE(refused.ok()) << messages.substr(0, 40);
    EXPECT_EQ(refused.error().field, "messages");
  }
}

TEST(ChatTemplate, SizeAndTimeAreBounded) {
  RenderOptions options;
  options.max_output_bytes = 1000;
  for (const char* source :
       {"{% for i in range(1001) %}x{% endfor %}", "{{ 'x' * 10000000000 }}",
        "{{ [0] * 10000000000 }}", "{{ 10 ** 10000000000 }}", "{{ 'é' * 501 }}"}) {
    const auto refused = render(source, kHello, options);
    ASSERT_FALSE(refused.ok()) << source;
    EXPECT_THAT(refused.error().message, HasSubstr("longer than 1000 bytes"));
  }
  EXPECT_EQ(render("{{ 'x' * 1000 }}", kHello, options)->size(), 1000u);
  options.max_time = Duration::zero();
  const auto late =
      render("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
             kHello, options);
  ASSERT_FALSE(late.ok());
  EXPECT_THAT(late.error().message, HasSubstr("took too long"));
}

TEST(ChatTemplate, ModelsWithoutATemplateAreNotFound) {
  const TemporaryFolder folder;
  EXPECT_EQ(ChatTemplate::load(test_python(), folder.path()).error().code, ErrorCode::kNotFound);
  folder.write("tokenizer_config.json", R"({"bos_token":"<s>"})");
  EXPECT_EQ(ChatTemplate::load(test_python(), folder.path()).error().code, ErrorCode::kNotFound);
  folder.write("tokenizer_config.json", R"({"chat_template":[{"name":"rag","template":"R"}]})");
  EXPECT_EQ(ChatTemplate::load(test_python(), folder.path()).error().code, ErrorCode::kNotFound);
}

TEST(ChatTemplate, BrokenConfigurationsAndTemplatesAreErrorsThatNameTheFile) {
  const TemporaryFolder folder;
  for (const char* config :
       {"", "[]", "{", R"({"chat_template": 7})", R"({"chat_template": "{% if %}"})",
        R"({"chat_template": "{% for x in %}"})", R"({"chat_template": "{{ x | nofilter }}"})",
        R"({"chat_template": "x", "bos_token": 3})",
        R"({"chat_template": "x", "eos_token": {"content": 3}})"}) {
    folder.write("tokenizer_config.json", config);
    const auto loaded = ChatTemplate::load(test_python(), folder.path());
    ASSERT_FALSE(loaded.ok()) << config;
    EXPECT_EQ(loaded.error().code, ErrorCode::kInvalidArgument) << config;
    EXPECT_THAT(loaded.error().message, HasSubstr("tokenizer_config.json")) << config;
  }
}

}  // namespace
}  // namespace gimbal::text
