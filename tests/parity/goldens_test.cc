// Logits and greedy tokens against what Hugging Face transformers computed on the same weights,
// stored in tests/goldens (its README describes the format).

#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <sys/wait.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "engine/model_executor.h"
#include "kernels/isa.h"
#include "models/tiny_model.h"

namespace gimbal::parity {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

constexpr int kPageTokens = 16;

std::vector<std::string> golden_cases() {
  std::vector<std::string> names;
  for (const auto& file : fs::directory_iterator(GIMBAL_GOLDENS_DIR)) {
    if (file.path().extension() == ".json") names.push_back(file.path().stem().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

Json read_golden(const std::string& name) {
  std::ifstream file(fs::path(GIMBAL_GOLDENS_DIR) / (name + ".json"));
  return Json::parse(file);
}

std::string sha256_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string bytes(std::istreambuf_iterator<char>(file), {});
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  EVP_Digest(bytes.data(), bytes.size(), digest, &size, EVP_sha256(), nullptr);
  std::string hex;
  for (unsigned int i = 0; i < size; ++i) {
    constexpr const char* kDigits = "0123456789abcdef";
    hex += kDigits[digest[i] >> 4];
    hex += kDigits[digest[i] & 15];
  }
  return hex;
}

void run_make_model(const std::string& folder, const Json& arguments) {
  std::string command = std::string("'") + GIMBAL_MAKE_MODEL + "' make-model '" + folder + "'";
  for (const std::string argument : arguments)
    command += " '" + argument + "'";
  const int status = std::system((command + " > /dev/null").c_str());
  ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << command;
}

// A text whose logits are wanted at some positions.
struct Text {
  std::vector<TokenId> tokens;
  std::set<std::int32_t> wanted;
  std::vector<PageId> pages;
  std::int32_t computed = 0;
};

using LogitsAt = std::map<std::pair<std::size_t, std::int32_t>, std::vector<float>>;

// Feeds texts to an executor in chunks that end where logits are wanted, several texts in one
// batch.
class TextRunner {
 public:
  TextRunner(const model::Model& model, ThreadPool& pool, kernels::Isa isa)
      : kv_(model.config(), model.dtype(), 128),
        executor_(model, kv_, {.pool = pool, .isa = isa}, clock_, {.max_batch_rows = 512}) {
    executor_.set_logits_observer(
        [this](RequestId id, std::int32_t position, std::span<const float> logits) {
          logits_[{id.value(), position}].assign(logits.begin(), logits.end());
        });
  }

  // `max_rows` bounds a text's chunk. Returns the wanted logits by (text, position).
  LogitsAt run(std::vector<Text>& texts, std::int32_t max_rows) {
    logits_.clear();
    for (Text& text : texts)
      take_pages(text);
    while (step(texts, max_rows)) {
    }
    return std::move(logits_);
  }

  void take_pages(Text& text) {
    while (text.pages.size() * kPageTokens < text.tokens.size()) {
      text.pages.emplace_back(next_page_++);
    }
  }

 private:
  bool step(std::vector<Text>& texts, std::int32_t max_rows) {
    sched::StepPlan plan{.batch = BatchId{++last_batch_}, .sequences = {}};
    for (std::size_t i = 0; i < texts.size(); ++i) {
      Text& text = texts[i];
      const auto next = text.wanted.lower_bound(text.computed);
      if (next == text.wanted.end()) continue;
      const std::int32_t rows = std::min(*next + 1 - text.computed, max_rows);
      const std::int32_t end = text.computed + rows;
      plan.sequences.push_back({.request = RequestId{i},
                                .tokens = std::span(text.tokens).first(end),
                                .position = text.computed,
                                .rows = rows,
                                .pages = text.pages,
                                .prompt_tokens = end,
                                .samples = *next + 1 == end,
                                .sampling = &greedy_});
      text.computed = end;
    }
    if (plan.sequences.empty()) return false;
    std::vector<sched::Event> events;
    executor_.start(plan);
    executor_.advance(plan.batch, Cursor::end(executor_.layers()));
    while (events.empty())
      executor_.run(events);
    executor_.finish(plan.batch);
    executor_.run(events);
    return true;
  }

  SteadyClock clock_;
  model::KvStorage kv_;
  engine::ModelExecutor executor_;
  const sched::SamplingParams greedy_{.temperature = 0.0F};
  std::int32_t next_page_ = 0;
  std::uint32_t last_batch_ = 0;
  LogitsAt logits_;
};

// Prompt and what transformers generated greedily in `dtype`; logits wanted where they are stored
// and where a token was chosen.
Text text_of(const Json& run, const std::string& dtype) {
  Text text;
  text.tokens = run["prompt"].get<std::vector<TokenId>>();
  const auto prompt = static_cast<std::int32_t>(text.tokens.size());
  const auto generated = run["greedy"][dtype]["tokens"].get<std::vector<TokenId>>();
  text.tokens.insert(text.tokens.end(), generated.begin(), generated.end());
  for (std::size_t i = 0; i < generated.size(); ++i) {
    text.wanted.insert(prompt - 1 + static_cast<std::int32_t>(i));
  }
  for (const Json& stored : run["logits"])
    text.wanted.insert(stored["position"].get<int>());
  return text;
}

// Largest difference to the stored logits of one position, and the largest stored one.
std::pair<float, float> difference(const std::vector<float>& logits, const Json& stored,
                                   const Json& sampled_ids) {
  float worst = 0;
  float scale = 0;
  const auto compare = [&](int id, float expected) {
    worst = std::max(worst, std::abs(logits[id] - expected));
    scale = std::max(scale, std::abs(expected));
  };
  for (std::size_t i = 0; i < stored["top"].size(); ++i) {
    compare(stored["top_ids"][i], stored["top"][i]);
  }
  for (std::size_t i = 0; i < sampled_ids.size(); ++i)
    compare(sampled_ids[i], stored["sampled"][i]);
  return {worst, scale};
}

// Levels that this machine has, the reference loops among them.
std::vector<kernels::Isa> levels() {
  std::vector<kernels::Isa> supported;
  for (const kernels::Isa isa : kernels::kAllIsas) {
    if (kernels::isa_supported(isa)) supported.push_back(isa);
  }
  return supported;
}

float largest_magnitude(const std::vector<float>& logits) {
  float largest = 0;
  for (const float logit : logits)
    largest = std::max(largest, std::abs(logit));
  return largest;
}

// Every greedy choice whose stored margin exceeds the tolerance must be the same, and at least 80 %
// of them must be such. `tolerance` gives that of a row of logits.
template <class Tolerance>
void expect_greedy_tokens(const LogitsAt& logits, const Json& runs, const std::string& dtype,
                          const Tolerance& tolerance) {
  int comparable = 0;
  int positions = 0;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const Json& greedy = runs[i]["greedy"][dtype];
    const auto prompt = static_cast<std::int32_t>(runs[i]["prompt"].size());
    for (std::size_t step = 0; step < greedy["tokens"].size(); ++step) {
      ++positions;
      const auto& row = logits.at({i, prompt - 1 + static_cast<std::int32_t>(step)});
      const float margin = greedy["margins"][step];
      if (margin <= tolerance(row)) continue;
      ++comparable;
      const auto best = std::max_element(row.begin(), row.end()) - row.begin();
      EXPECT_EQ(best, greedy["tokens"][step].get<std::int64_t>())
          << "run " << i << " token " << step << " margin " << margin;
    }
  }
  EXPECT_GE(comparable * 100, positions * 80);
}

class Goldens : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    golden_ = read_golden(GetParam());
    if (golden_.contains("shipped_model")) {
      model_folder_ = fs::path(GIMBAL_SOURCE_DIR) / golden_["shipped_model"].get<std::string>();
    } else {
      model_folder_ = fs::path(folder_.path()) / "model";
      run_make_model(model_folder_.string(), golden_["make_model"]);
    }
    for (const auto& [file, digest] : golden_["sha256"].items()) {
      ASSERT_EQ(sha256_of(model_folder_ / file), digest.get<std::string>());
    }
  }

  std::unique_ptr<model::Model> load(tensor::DType dtype) {
    auto loaded = model::Model::load(model_folder_.string(), {.dtype = dtype}, pool_);
    EXPECT_TRUE(loaded.ok()) << loaded.error().message;
    return std::move(loaded).value();
  }

  std::vector<Text> texts(const std::string& dtype) const {
    std::vector<Text> all;
    for (const Json& run : golden_["runs"])
      all.push_back(text_of(run, dtype));
    return all;
  }

  void expect_fp32_logits(const LogitsAt& logits) const {
    const float tolerance = golden_["fp32_relative_tolerance"];
    for (std::size_t i = 0; i < golden_["runs"].size(); ++i) {
      for (const Json& stored : golden_["runs"][i]["logits"]) {
        const auto& row = logits.at({i, stored["position"].get<int>()});
        const auto [worst, scale] = difference(row, stored, golden_["sampled_ids"]);
        EXPECT_LE(worst, tolerance * scale) << "run " << i << " position " << stored["position"];
      }
    }
  }

  // One position of a case in which bf16 sends rows to other experts may stand out.
  void expect_bf16_logits(const LogitsAt& logits) const {
    const float tolerance = golden_["bf16_tolerance"];
    const int may_stand_out = golden_["bf16_router_flips"][0].get<int>() > 0 ? 1 : 0;
    int outside = 0;
    std::string where;
    for (std::size_t i = 0; i < golden_["runs"].size(); ++i) {
      for (const Json& stored : golden_["runs"][i]["logits"]) {
        const auto& row = logits.at({i, stored["position"].get<int>()});
        const auto [worst, scale] = difference(row, stored, golden_["sampled_ids"]);
        if (worst <= tolerance) continue;
        ++outside;
        where += " run " + std::to_string(i) + " position " + stored["position"].dump() + " by " +
                 std::to_string(worst);
      }
    }
    EXPECT_LE(outside, may_stand_out) << where;
  }

  Json golden_;
  TemporaryFolder folder_;
  fs::path model_folder_;
  ThreadPool pool_{{.workers = 2, .pin = false}};
};

TEST_P(Goldens, Float32MatchesInEveryScheduleAtEveryLevel) {
  const auto model = load(tensor::DType::kF32);
  const float relative = golden_["fp32_relative_tolerance"];
  ASSERT_LE(relative, 1e-4F);
  for (const kernels::Isa isa : levels()) {
    SCOPED_TRACE(kernels::to_string(isa));
    TextRunner runner(*model, pool_, isa);
    // Prompts whole, all texts in one ragged batch; then the same in chunks of 13 rows.
    std::vector<Text> whole = texts("float32");
    const LogitsAt logits = runner.run(whole, 512);
    expect_fp32_logits(logits);
    std::vector<Text> chunked = texts("float32");
    const LogitsAt again = runner.run(chunked, 13);
    expect_fp32_logits(again);
    EXPECT_EQ(logits, again);
    expect_greedy_tokens(
        logits, golden_["runs"], "float32",
        [relative](const std::vector<float>& row) { return relative * largest_magnitude(row); });
  }
}

TEST_P(Goldens, PrefixHitsGiveTheSameLogits) {
  const auto model = load(tensor::DType::kF32);
  TextRunner runner(*model, pool_, kernels::best_isa());
  std::vector<Text> first = texts("float32");
  const LogitsAt logits = runner.run(first, 512);
  // The same texts again, on the pages of the first ones for all whole pages of the prompt.
  std::vector<Text> second = texts("float32");
  for (std::size_t i = 0; i < second.size(); ++i) {
    const auto prompt = static_cast<std::int32_t>(golden_["runs"][i]["prompt"].size());
    const std::int32_t hit = (prompt - 1) / kPageTokens * kPageTokens;
    second[i].pages.assign(first[i].pages.begin(), first[i].pages.begin() + hit / kPageTokens);
    second[i].computed = hit;
  }
  const LogitsAt again = runner.run(second, 512);
  EXPECT_FALSE(again.empty());
  for (const auto& [where, row] : again)
    EXPECT_EQ(row, logits.at(where));
}

TEST_P(Goldens, BFloat16StaysWithinTheToleranceOfTransformersOwnAtEveryLevel) {
  const auto model = load(tensor::DType::kBF16);
  const float margin = golden_["bf16_margin_tolerance"];
  const auto margin_of = [margin](const std::vector<float>& /*row*/) { return margin; };
  for (const kernels::Isa isa : levels()) {
    SCOPED_TRACE(kernels::to_string(isa));
    TextRunner runner(*model, pool_, isa);
    std::vector<Text> text = texts("float32");
    const LogitsAt logits = runner.run(text, 512);
    expect_bf16_logits(logits);
    expect_greedy_tokens(logits, golden_["runs"], "float32", margin_of);
    // And the text that transformers itself wrote in bf16.
    std::vector<Text> own = texts("bfloat16");
    expect_greedy_tokens(runner.run(own, 512), golden_["runs"], "bfloat16", margin_of);
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, Goldens, ::testing::ValuesIn(golden_cases()),
                         [](const auto& each) { return each.param; });

}  // namespace
}  // namespace gimbal::parity
