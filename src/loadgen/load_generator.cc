#include "loadgen/load_generator.h"

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <deque>
#include <memory>
#include <string>
#include <utility>

#include "base/check.h"
#include "loadgen/client_connection.h"

namespace gimbal::loadgen {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
using report::RequestRecord;
using workload::RequestSpec;

constexpr Duration kTick = std::chrono::milliseconds(100);
// Requests are written ahead of their time up to this much, so that a burst is not late for it.
constexpr std::size_t kAheadBytes = std::size_t{256} << 20;

// The workload's requests as bytes, in order, written ahead.
class RequestBytes {
 public:
  RequestBytes(const workload::Workload& workload, const TargetUrl& target,
               const RequestOptions& options)
      : workload_(workload), target_(target), options_(options) {
    while (bytes_ < kAheadBytes && write_one()) {
    }
  }

  // The next request. Requires: there is one.
  std::string take() {
    if (ready_.empty()) write_one();
    std::string request = std::move(ready_.front());
    ready_.pop_front();
    bytes_ -= request.size();
    return request;
  }
  // Makes up for one that was taken.
  void refill() {
    if (bytes_ < kAheadBytes) write_one();
  }

 private:
  bool write_one() {
    if (next_ == workload_.requests.size()) return false;
    ready_.push_back(write_request(workload_.requests[next_++], target_, options_));
    bytes_ += ready_.back().size();
    return true;
  }

  const workload::Workload& workload_;
  const TargetUrl& target_;
  const RequestOptions& options_;
  std::deque<std::string> ready_;
  std::size_t bytes_ = 0;
  std::size_t next_ = 0;
};

// One run. Requests come due by the clock, which is looked at between any two readings of
// connections and when the arrival timer ends a rest; they go out by send_next(), and come back in
// on_answer().
class LoadRun {
 public:
  LoadRun(const workload::Workload& workload, const TargetUrl& target, const LoadOptions& options)
      : workload_(workload),
        options_(options),
        target_(target),
        bytes_(workload, target, options.request),
        arrival_timer_(io_),
        tick_timer_(io_),
        records_(workload.requests.size()) {}

  Result<void> resolve() {
    error_code error;
    tcp::resolver resolver(io_);
    endpoints_ = resolver.resolve(target_.host, std::to_string(target_.port), error);
    if (!error) return {};
    return Error{ErrorCode::kNotFound, "no address of " + target_.host + ": " + error.message(),
                 "base_url"};
  }

  LoadResult run() {
    if (workload_.requests.empty()) return {};
    start_ = clock_.now();
    tick();
    do {
      send_due();
    } while (io_.run_one() > 0);
    return result();
  }

 private:
  [[nodiscard]] Duration now() const { return clock_.now() - start_; }
  [[nodiscard]] std::size_t total() const { return workload_.requests.size(); }
  [[nodiscard]] bool finished() const { return answered_ == total() || stopped_; }

  void send_due();
  void arm_arrival();
  void send_next();
  void on_answer(ClientConnection& connection);
  ClientConnection& idle_connection();
  RequestRecord record_of(const RequestSpec& request) const;
  void tick();
  void fail_overdue();
  void stop();
  LoadResult result();

  const workload::Workload& workload_;
  const LoadOptions& options_;
  const TargetUrl& target_;
  RequestBytes bytes_;
  SteadyClock clock_;
  TimePoint start_{};
  asio::io_context io_{1};
  ClientConnection::Endpoints endpoints_;
  asio::steady_timer arrival_timer_;  // ends a rest when request armed_ is due
  std::size_t armed_ = ~std::size_t{0};
  asio::steady_timer tick_timer_;
  std::vector<std::unique_ptr<ClientConnection>> connections_;
  std::vector<ClientConnection*> idle_;
  std::vector<ClientConnection*> active_;
  std::size_t due_ = 0;   // requests [0, due_) have come due
  std::size_t sent_ = 0;  // and [0, sent_) were sent
  std::size_t answered_ = 0;
  std::size_t failed_ = 0;
  bool stopped_ = false;
  std::vector<std::optional<RequestRecord>> records_;
  std::vector<Duration> lags_;
  Duration last_answer_{};
};

// One request at a time, so that answers are read between those of a burst; but each counts as late
// from its own arrival.
void LoadRun::send_due() {
  if (due_ == total() || stopped_) return;
  const Duration late = now() - workload_.requests[due_].arrival;
  if (late >= Duration{}) {
    lags_.push_back(late);
    ++due_;
    send_next();
  }
  arm_arrival();
}

void LoadRun::arm_arrival() {
  if (due_ == total() || armed_ == due_) return;
  armed_ = due_;
  arrival_timer_.expires_after(std::max(Duration{}, workload_.requests[due_].arrival - now()));
  arrival_timer_.async_wait([](const error_code& /*error*/) {});
}

void LoadRun::send_next() {
  const bool full = options_.max_concurrency &&
                    active_.size() >= static_cast<std::size_t>(*options_.max_concurrency);
  if (stopped_ || full || sent_ == due_) return;
  ClientConnection& connection = idle_connection();
  active_.push_back(&connection);
  const std::size_t index = sent_++;
  RequestRecord record = record_of(workload_.requests[index]);
  record.sent = now();
  connection.send(index, bytes_.take(), AnswerReader(std::move(record), options_.keep_text));
  bytes_.refill();
}

ClientConnection& LoadRun::idle_connection() {
  if (!idle_.empty()) {
    ClientConnection* const last = idle_.back();
    idle_.pop_back();
    return *last;
  }
  connections_.push_back(std::make_unique<ClientConnection>(
      io_, target_, endpoints_, [this] { return now(); },
      [this](ClientConnection& connection) { on_answer(connection); }));
  return *connections_.back();
}

RequestRecord LoadRun::record_of(const RequestSpec& request) const {
  return {.scheduled = request.arrival,
          .prompt_tokens = request.prompt_tokens(),
          .traffic_class = std::string(to_string(request.traffic_class)),
          .user = request.user};
}

void LoadRun::on_answer(ClientConnection& connection) {
  active_.erase(std::find(active_.begin(), active_.end(), &connection));
  idle_.push_back(&connection);
  RequestRecord record = connection.take_record();
  ++answered_;
  failed_ += !record.completed();
  records_[connection.index()] = std::move(record);
  last_answer_ = now();
  if (finished()) {
    tick_timer_.cancel();
  } else {
    send_next();
  }
}

void LoadRun::tick() {
  if (options_.stop != nullptr && options_.stop->load()) return stop();
  fail_overdue();
  if (options_.on_progress) {
    options_.on_progress({.total = static_cast<std::int64_t>(total()),
                          .sent = static_cast<std::int64_t>(sent_),
                          .answered = static_cast<std::int64_t>(answered_),
                          .failed = static_cast<std::int64_t>(failed_),
                          .elapsed = now()});
  }
  if (finished()) return;
  tick_timer_.expires_after(kTick);
  tick_timer_.async_wait([this](const error_code& error) {
    if (!error) tick();
  });
}

void LoadRun::fail_overdue() {
  const Duration oldest = now() - options_.request_timeout;
  const std::vector<ClientConnection*> active = active_;  // fail() changes it
  for (ClientConnection* connection : active) {
    if (connection->sent() < oldest) connection->fail("no answer within the time limit");
  }
}

void LoadRun::stop() {
  stopped_ = true;
  last_answer_ = now();
  arrival_timer_.cancel();
  for (ClientConnection* connection : active_)
    connection->close();
}

LoadResult LoadRun::result() {
  LoadResult result;
  result.lags = std::move(lags_);
  result.duration = std::max(last_answer_, Duration{1});
  result.dropped = static_cast<std::int64_t>(sent_ - answered_);
  result.unsent = static_cast<std::int64_t>(total() - sent_);
  for (auto& record : records_) {
    if (record) result.records.push_back(std::move(*record));
  }
  return result;
}

}  // namespace

Result<LoadResult> run_load(const workload::Workload& workload, const TargetUrl& target,
                            const LoadOptions& options) {
  GIMBAL_CHECK(options.max_concurrency.value_or(1) >= 1);
  GIMBAL_RETURN_IF_ERROR(validate(options.request));
  LoadRun run(workload, target, options);
  GIMBAL_RETURN_IF_ERROR(run.resolve());
  return run.run();
}

}  // namespace gimbal::loadgen
