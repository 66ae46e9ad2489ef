#include "sim/run_report.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "report/bootstrap.h"

namespace gimbal::sim {
namespace {

using report::Cell;
using report::Metric;

RunWork work_of(SimulatedCluster& cluster) {
  RunWork work;
  work.makespan_s = to_ms(cluster.now().time_since_epoch()) * 1e-3;
  work.events = cluster.queue().handled();
  for (int i = 0; i < cluster.size(); ++i) {
    const SimulatedEngine& engine = cluster.engine(i);
    const sched::SchedulerCounters counters = engine.loop().counters();
    const CostModelExecutor::Totals& done = engine.executor().totals();
    work.engine_steps += done.steps;
    work.prompt_tokens += counters.prompt_tokens;
    work.generated_tokens += counters.generated_tokens;
    work.prefix_queried_tokens += counters.prefix_queried_tokens;
    work.prefix_hit_tokens += counters.prefix_hit_tokens;
    work.evictions += counters.evictions;
    work.recomputed_tokens += counters.recomputed_tokens;
    work.pages_referenced += engine.failed() ? 0 : counters.pages_referenced;
    work.engines.push_back({.engine = i,
                            .steps = done.steps,
                            .generated_tokens = counters.generated_tokens,
                            .prefill_rows = done.prefill_rows,
                            .attention_s = done.attention_ms * 1e-3,
                            .service_s = done.service_ms * 1e-3,
                            .wait_s = done.wait_ms * 1e-3});
  }
  for (const auto& group : cluster.groups()) {
    const auto gang = group->gang_counters();
    if (!gang) continue;
    work.gang_steps += gang->gang_steps;
    work.gang_joins += gang->joins;
    work.dummy_steps += gang->dummies;
    for (const std::uint64_t solos : gang->solos)
      work.solo_steps += solos;
  }
  return work;
}

Json work_to_json(const RunWork& work) {
  Json engines = Json::array();
  for (const RunWork::Engine& engine : work.engines) {
    engines.push_back({{"engine", engine.engine},
                       {"steps", engine.steps},
                       {"generated_tokens", engine.generated_tokens},
                       {"prefill_rows", engine.prefill_rows},
                       {"attention_s", engine.attention_s},
                       {"service_s", engine.service_s},
                       {"wait_s", engine.wait_s}});
  }
  return {{"makespan_s", work.makespan_s},
          {"engine_steps", work.engine_steps},
          {"events", work.events},
          {"prompt_tokens", work.prompt_tokens},
          {"generated_tokens", work.generated_tokens},
          {"prefix_queried_tokens", work.prefix_queried_tokens},
          {"prefix_hit_tokens", work.prefix_hit_tokens},
          {"evictions", work.evictions},
          {"recomputed_tokens", work.recomputed_tokens},
          {"gang_steps", work.gang_steps},
          {"gang_joins", work.gang_joins},
          {"dummy_steps", work.dummy_steps},
          {"solo_steps", work.solo_steps},
          {"engines", std::move(engines)}};
}

struct Column {
  const char* name;
  double (*value)(const report::ServeResult&);
};

template <Metric metric>
double mean_of(const report::ServeResult& result) {
  return result.all.latency(metric).mean();
}
template <Metric metric>
double p99_of(const report::ServeResult& result) {
  return result.all.latency(metric).percentile(99.0);
}

constexpr std::array kColumns{
    Column{"mean TTFT ms", &mean_of<Metric::kTtft>},
    Column{"p99 TTFT ms", &p99_of<Metric::kTtft>},
    Column{"mean TPOT ms", &mean_of<Metric::kTpot>},
    Column{"p99 TPOT ms", &p99_of<Metric::kTpot>},
    Column{"mean E2E ms", &mean_of<Metric::kE2el>},
    Column{"requests/s", [](const report::ServeResult& r) { return r.all.request_throughput; }},
    Column{"tokens/s", [](const report::ServeResult& r) { return r.all.output_throughput; }}};

std::vector<std::string> with_columns(std::vector<std::string> first) {
  for (const Column& column : kColumns)
    first.emplace_back(column.name);
  return first;
}

}  // namespace

RunResult result_of(SimulatedCluster& cluster, const RunLabel& label,
                    const report::ServeResultOptions& options) {
  RunResult result{.label = label, .ends = cluster.log().counts(), .work = work_of(cluster)};
  if (result.ends[static_cast<std::size_t>(RequestEnd::kCompleted)] > 0) {
    result.served = cluster.log().summarize(options);
  }
  return result;
}

Json run_to_json(const RunResult& run, const report::ServeJsonOptions& shown) {
  report::RunInfo info{.backend = "simulator",
                       .model_id = run.label.model,
                       .workload = run.label.workload,
                       .request_rate = run.label.request_rate,
                       .burstiness = run.label.burstiness,
                       .seed = run.label.seed};
  for (const std::int64_t count : run.ends)
    info.num_prompts += count;
  report::ServeJsonOptions wanted = shown;
  if (std::find(wanted.percentiles.begin(), wanted.percentiles.end(), 50.0) ==
      wanted.percentiles.end()) {
    wanted.percentiles.insert(wanted.percentiles.begin(), 50.0);
  }
  Json json = to_json(run.served, info, wanted);
  for (const char* name : {"date", "base_url", "endpoint_type", "tokenizer_id", "scheduling_lag_ms",
                           "users", "max_concurrency", "label"}) {
    json.erase(name);
  }
  std::int64_t failed = 0;
  Json ends = Json::object();
  for (int i = 0; i < kRequestEnds; ++i) {
    const auto count = run.ends[static_cast<std::size_t>(i)];
    if (static_cast<RequestEnd>(i) != RequestEnd::kCompleted) failed += count;
    if (count > 0) ends[std::string(to_string(static_cast<RequestEnd>(i)))] = count;
  }
  json["failed"] = failed;
  json["ends"] = std::move(ends);
  json["preset"] = run.label.preset;
  json["profile"] = run.label.profile;
  json["system"] = work_to_json(run.work);
  json["wall_s"] = run.wall_s;
  return json;
}

report::Table runs_table(std::span<const RunResult> runs) {
  report::Table table(with_columns({"preset", "seed", "completed", "failed"}));
  for (const RunResult& run : runs) {
    const std::int64_t completed = run.ends[static_cast<std::size_t>(RequestEnd::kCompleted)];
    std::int64_t all = 0;
    for (const std::int64_t count : run.ends)
      all += count;
    std::vector<Cell> row{Cell::of_text(run.label.preset),
                          Cell::of_count(static_cast<std::int64_t>(run.label.seed)),
                          Cell::of_count(completed), Cell::of_count(all - completed)};
    for (const Column& column : kColumns)
      row.push_back(Cell::of_number(column.value(run.served)));
    table.add_row(std::move(row));
  }
  return table;
}

report::Table errors_table(std::span<const RunResult> runs) {
  GIMBAL_CHECK(runs.size() % 2 == 0);
  report::Table table(with_columns({"preset", "seed"}));
  for (std::size_t i = 0; i < runs.size(); i += 2) {
    const RunResult& approximate = runs[i];
    const RunResult& exact = runs[i + 1];
    std::vector<Cell> row{Cell::of_text(approximate.label.preset),
                          Cell::of_count(static_cast<std::int64_t>(approximate.label.seed))};
    for (const Column& column : kColumns) {
      const double truth = column.value(exact.served);
      row.push_back(truth > 0 ? Cell::of_change(column.value(approximate.served) / truth)
                              : Cell::absent());
    }
    table.add_row(std::move(row));
  }
  return table;
}

report::Table presets_table(std::span<const RunResult> runs) {
  report::Table table(with_columns({"preset", "seeds"}));
  std::vector<std::string> names;
  for (const RunResult& run : runs) {
    if (std::find(names.begin(), names.end(), run.label.preset) == names.end())
      names.push_back(run.label.preset);
  }
  for (const std::string& name : names) {
    std::vector<Cell> row{Cell::of_text(name)};
    std::vector<double> values;
    for (const Column& column : kColumns) {
      values.clear();
      for (const RunResult& run : runs) {
        if (run.label.preset == name) values.push_back(column.value(run.served));
      }
      if (row.size() == 1) row.push_back(Cell::of_count(static_cast<std::int64_t>(values.size())));
      row.push_back(values.size() > 1 ? Cell::of_interval(report::bootstrap_mean(values))
                                      : Cell::of_number(values.front()));
    }
    table.add_row(std::move(row));
  }
  return table;
}

}  // namespace gimbal::sim
