#include "workload/trace_writer.h"

#include <fmt/format.h>

#include <cerrno>
#include <fstream>
#include <nlohmann/json.hpp>

namespace gimbal::workload {
namespace {

std::string quoted(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string line_of(const RequestSpec& request) {
  const auto ns = request.arrival.count();
  std::string line =
      fmt::format(R"({{"timestamp":{}.{:06},"input_length":{},"output_length":{},"prompt":[)",
                  ns / 1'000'000, ns % 1'000'000, request.prompt_tokens(), request.output_tokens);
  for (std::size_t i = 0; i < request.prompt.size(); ++i) {
    const PromptPart& part = request.prompt[i];
    line += fmt::format("{}[{},{},{}]", i == 0 ? "" : ",", part.identity, part.tokens, part.topic);
  }
  line += "]";
  if (!request.user.empty()) line += R"(,"user":)" + quoted(request.user);
  if (request.traffic_class != TrafficClass::kNone) {
    line += fmt::format(R"(,"class":"{}")", to_string(request.traffic_class));
  }
  if (request.source) line += fmt::format(R"(,"source":{})", *request.source);
  if (!request.text.empty()) line += R"(,"text":)" + quoted(request.text);
  return line + "}\n";
}

}  // namespace

void write_jsonl(const Workload& workload, std::ostream& out) {
  for (const RequestSpec& request : workload.requests)
    out << line_of(request);
}

Result<void> write_jsonl_file(const Workload& workload, const std::string& path) {
  std::ofstream file(path, std::ios::binary);
  if (file) write_jsonl(workload, file);
  file.flush();
  if (!file) return io_error(path, errno);
  return {};
}

}  // namespace gimbal::workload
