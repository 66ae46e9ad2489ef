// The expert services of an ExactRunner: posts, holds, runs and returns.

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "sim/exact_runner.h"

namespace gimbal::sim {

std::int32_t ExactRunner::new_message() {
  if (unused_.empty()) {
    unused_.push_back(static_cast<std::int32_t>(messages_.size()));
    messages_.emplace_back();
  }
  const std::int32_t index = unused_.back();
  unused_.pop_back();
  Message& message = messages_[static_cast<std::size_t>(index)];
  message.rows.clear();
  message.experts.clear();
  message.entries.clear();
  message.used = true;
  return index;
}

void ExactRunner::free_message(std::int32_t index) {
  messages_[static_cast<std::size_t>(index)].used = false;
  unused_.push_back(index);
}

// When a message of `bytes` is at the device, if it is sent now by one that sends `all_bytes_out`
// in all: a device receives one message after the other.
TimePoint ExactRunner::arrival(std::size_t device, double bytes, double all_bytes_out) {
  const auto send_ms = [this](double size) {
    return size > 0 ? costs_.model().exchange_ms(size, 0, costs_.tier()) - latency_ms_ : 0.0;
  };
  if (!(bytes > 0)) return queue_.now() + from_ms(latency_ms_);
  Device& to = devices_[device];
  const TimePoint sent = queue_.now() + from_ms(latency_ms_ + send_ms(all_bytes_out));
  const TimePoint received =
      std::max(to.receives, queue_.now() + from_ms(latency_ms_)) + from_ms(send_ms(bytes));
  to.receives = std::max(sent, received);
  return to.receives;
}

// Draws what the member's rows choose, and posts them to the services.
void ExactRunner::post_rows(Rank which) {
  RankState& rank = at(which);
  rank.local = false;
  PassMember& member = active(rank);
  Seat& seat = rank.seats[static_cast<std::size_t>(member.pass)];
  const sched::SourceSlot slot{member.pass};
  const std::uint32_t epoch = rank.outstanding->epoch(slot);
  const std::int32_t first_output = member.pass * max_outputs_;
  const LayerIndex layer = member.cursor.layer;
  rows_.clear();
  experts_.clear();
  drawn_.resize(static_cast<std::size_t>(choices_));
  for (std::size_t topic = 0; topic < member.tokens.size(); ++topic) {
    const auto rows = static_cast<int>(member.tokens[topic]);
    for (int i = 0; i < rows; ++i) {
      routing_.draw(layer, static_cast<int>(topic), rng_, drawn_);
      const auto row = static_cast<std::int32_t>(rows_.size());
      rows_.push_back({.slot = slot,
                       .epoch = epoch,
                       .row = row,
                       .first_output = first_output + row * choices_});
      experts_.insert(experts_.end(), drawn_.begin(), drawn_.end());
    }
  }
  if (!rows_.empty()) {
    rank.outstanding->post({.source = which,
                            .layer = layer,
                            .step = member.gang_step,
                            .members = member.gang_members,
                            .map_version = map_.version(),
                            .rows = rows_,
                            .experts = experts_});
  }
  seat.experts = experts_;
  for (Message& list : lists_) {
    list.rows.clear();
    list.experts.clear();
  }
  for (std::size_t i = 0; i < experts_.size(); ++i) {
    sched::PostedRow row = rows_[i / static_cast<std::size_t>(choices_)];
    row.first_output += static_cast<std::int32_t>(i) % choices_;
    route(which, layer, row, experts_[i]);
  }
  send_posts(which, member);
  if (rows_.empty()) end_stage(which, 1);
}

void ExactRunner::route(Rank which, LayerIndex layer, const sched::PostedRow& row,
                        std::int32_t expert) {
  const Rank to = map_.destination(layer, ExpertId{expert}, at(which).row_key++);
  Message& list = lists_[static_cast<std::size_t>(to.value())];
  list.rows.push_back(row);
  list.experts.push_back(expert);
}

// Sends lists_. In a gang step every service hears from every member.
void ExactRunner::send_posts(Rank which, const PassMember& member) {
  const double row_bytes = costs_.model().model().row_bytes();
  double out = 0;
  for (std::size_t device = 0; device < devices_.size(); ++device) {
    if (rank_of(device) != which)
      out += static_cast<double>(lists_[device].rows.size()) * row_bytes;
  }
  out /= costs_.model().attention_tp();
  for (std::size_t device = 0; device < devices_.size(); ++device) {
    Message& list = lists_[device];
    const bool gone = (gone_ & sched::rank_bit(rank_of(device))) != 0;
    if ((list.rows.empty() && member.gang_step == sched::kSolo) || gone) continue;
    const std::int32_t index = new_message();
    Message& message = messages_[static_cast<std::size_t>(index)];
    message.device = static_cast<int>(device);
    message.source = which;
    message.layer = member.cursor.layer;
    message.step = devices_[device].holds != nullptr ? member.gang_step : sched::kSolo;
    message.rows.swap(list.rows);
    message.experts.swap(list.experts);
    const double bytes = static_cast<double>(message.rows.size()) * row_bytes;
    const TimePoint at = rank_of(device) == which ? queue_.now() : arrival(device, bytes, out);
    wake(at, kPost, static_cast<std::uint64_t>(index), 0);
  }
}

// What the rank's batch still misses it asks for again, by the map as it is now.
void ExactRunner::repost(Rank which) {
  RankState& rank = at(which);
  if (rank.active < 0 || rank.local || rank.hung) return;
  PassMember& member = active(rank);
  const sched::SourceSlot slot{member.pass};
  if (rank.outstanding->missing(slot) == 0) return;
  rank.outstanding->repost(slot, map_.version(), missing_);
  const std::int32_t first_output = member.pass * max_outputs_;
  for (Message& list : lists_) {
    list.rows.clear();
    list.experts.clear();
  }
  const Seat& seat = rank.seats[static_cast<std::size_t>(member.pass)];
  for (const std::int32_t output : missing_) {
    const std::int32_t place = output - first_output;
    route(which, member.cursor.layer,
          {.slot = slot,
           .epoch = rank.outstanding->epoch(slot),
           .row = place / choices_,
           .first_output = output},
          seat.experts[static_cast<std::size_t>(place)]);
  }
  PassMember solo = member;
  solo.gang_step = sched::kSolo;
  send_posts(which, solo);
}

void ExactRunner::take_post(std::int32_t index) {
  const Message& message = messages_[static_cast<std::size_t>(index)];
  const auto device = static_cast<std::size_t>(message.device);
  if (devices_[device].hung && (gone_ & sched::rank_bit(rank_of(device))) != 0) {
    return free_message(index);
  }
  const sched::RankSet members =
      message.step == sched::kSolo ? sched::RankSet{0} : members_of(message.step);
  if (message.step == sched::kSolo || members == 0) {
    queue_post(index);
    return serve(device);
  }
  devices_[device].holds->post({.source = message.source,
                                .layer = message.layer,
                                .step = message.step,
                                .members = members,
                                .post = index},
                               release_);
  release(device);
}

// What the device's holds let go of.
void ExactRunner::release(std::size_t device) {
  for (const std::int32_t post : release_.posts)
    queue_post(post);
  for (const std::int32_t post : release_.dropped)
    free_message(post);
  serve(device);
}

// Rows of a batch that is gone, or that was asked for again, are left out.
void ExactRunner::queue_post(std::int32_t index) {
  Message& message = messages_[static_cast<std::size_t>(index)];
  if (!message.rows.empty()) {
    const sched::PostedRow& first = message.rows.front();
    if (first.epoch == at(message.source).outstanding->epoch(first.slot)) {
      devices_[static_cast<std::size_t>(message.device)].queues->post(
          {.source = message.source,
           .layer = message.layer,
           .step = message.step,
           .map_version = map_.version(),
           .rows = message.rows,
           .experts = message.experts},
          queue_.now());
    }
  }
  free_message(index);
}

void ExactRunner::serve(std::size_t index) {
  Device& device = devices_[index];
  if (device.running || device.hung || device.queues->entries() == 0) return;
  const policy::ExpertQueueDecision& decision = device.queues->next(*policy_, queue_.now());
  if (decision.run.empty()) return;  // the next post
  device.queues->take(decision.run, device.run);
  // Groups of one layer stand side by side, as their posts came.
  device.run_ms = 0;
  device.run_distinct = static_cast<double>(device.run.groups.size());
  std::sort(device.run.groups.begin(), device.run.groups.end(),
            [](const auto& a, const auto& b) { return a.layer < b.layer; });
  for (std::size_t i = 0; i < device.run.groups.size();) {
    cost::ExpertLoad load;
    const LayerIndex layer = device.run.groups[i].layer;
    for (; i < device.run.groups.size() && device.run.groups[i].layer == layer; ++i) {
      load.rows += device.run.groups[i].count;
      load.distinct += 1;
    }
    device.run_ms += costs_.service_ms(index, load);
  }
  loads_[index].rows += static_cast<double>(device.run.entries.size());
  loads_[index].distinct += device.run_distinct;
  loads_[index].service_ms += device.run_ms;
  device.queues->note_time(device.run, from_ms(device.run_ms));
  device.running = true;
  RankState& rank = at(rank_of(index));
  if (rank.computing) pause_local(rank_of(index));
  ++rank.busy_services;
  wake(queue_.now() + from_ms(device.run_ms), kRun, index, ++device.generation);
}

// Sends the outputs back, each source's as one message.
void ExactRunner::end_run(std::size_t index) {
  Device& device = devices_[index];
  const double row_bytes = costs_.model().model().row_bytes();
  const double all = static_cast<double>(device.run.entries.size());
  std::vector<std::int32_t> of_source(ranks_.size(), -1);
  double out = 0;
  for (const sched::ExpertEntry& entry : device.run.entries) {
    std::int32_t& place = of_source[static_cast<std::size_t>(entry.source)];
    if (place < 0) place = new_message();
    messages_[static_cast<std::size_t>(place)].entries.push_back(entry);
    out += Rank{entry.source} != rank_of(index) ? row_bytes : 0;
  }
  for (std::size_t source = 0; source < of_source.size(); ++source) {
    if (of_source[source] < 0) continue;
    Message& message = messages_[static_cast<std::size_t>(of_source[source])];
    const double share = static_cast<double>(message.entries.size()) / all;
    message.source = Rank{static_cast<std::int32_t>(source)};
    message.service_ms = device.run_ms * share;
    message.distinct = device.run_distinct * share;
    const bool own = message.source == rank_of(index);
    const auto to = source * static_cast<std::size_t>(costs_.model().attention_tp());
    const double bytes = static_cast<double>(message.entries.size()) * row_bytes;
    wake(own ? queue_.now() : arrival(to, bytes, out), kReturn,
         static_cast<std::uint64_t>(of_source[source]), 0);
  }
  service_stopped(index);
}

void ExactRunner::service_stopped(std::size_t index) {
  devices_[index].running = false;
  --at(rank_of(index)).busy_services;
  serve(index);
  start_local(rank_of(index));
}

void ExactRunner::take_return(std::int32_t index) {
  Message& message = messages_[static_cast<std::size_t>(index)];
  const Rank which = message.source;
  RankState& rank = at(which);
  const sched::ExpertEntry& first = message.entries.front();
  PassMember* member = rank.seats[static_cast<std::size_t>(first.slot.value())].member;
  if (member != nullptr && first.epoch == rank.outstanding->epoch(first.slot)) {
    member->service_ms += message.service_ms;
    member->distinct += message.distinct;
  }
  rank.outstanding->complete(message.entries, completion_);
  free_message(index);
  if (completion_.complete.empty() || rank.hung) return;
  end_stage(which, 1);
}

}  // namespace gimbal::sim
