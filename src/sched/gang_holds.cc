#include "sched/gang_holds.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace gimbal::sched {
namespace {

void clear(GangRelease& release) {
  release.posts.clear();
  release.holds.clear();
  release.dropped.clear();
  release.late.clear();
}

std::size_t index(int value) {
  return static_cast<std::size_t>(value);
}

}  // namespace

GangHolds::GangHolds(const GangHoldsOptions& options) : options_(options) {
  GIMBAL_CHECK(options.ranks >= 1 && options.ranks <= kMostGangRanks);
  GIMBAL_CHECK(options.layers >= 1 && options.max_steps >= 1);
  GIMBAL_CHECK(options.posts_per_member >= 1 && options.posts_per_member <= options.layers);
  over_.resize(index(options.ranks), kSolo);
}

void GangHolds::check_rank(Rank rank) const {
  GIMBAL_CHECK(rank.value() >= 0 && rank.value() < options_.ranks);
}

int GangHolds::find(std::uint64_t number) const {
  for (int i = 0; i < open_; ++i) {
    if (steps_[index(i)].number == number) return i;
  }
  return -1;
}

GangHolds::Step& GangHolds::open(std::uint64_t number, RankSet members) {
  if (const int found = find(number); found >= 0) {
    Step& step = steps_[index(found)];
    GIMBAL_CHECK(step.members == members, "two posts of a gang step name different members");
    return step;
  }
  GIMBAL_CHECK(open_ < options_.max_steps, "more gang steps are open than can be");
  if (open_ == static_cast<int>(steps_.size())) {
    Step& added = steps_.emplace_back();
    added.post.resize(index(options_.layers) * index(options_.ranks));
    added.sent.resize(index(options_.ranks));
    added.holds.resize(index(options_.layers));
  }
  Step& step = steps_[index(open_++)];
  step.number = number;
  step.members = members;
  step.gone = members & dead_;
  for (int rank = 0; rank < options_.ranks; ++rank) {  // who was late in a later one
    if (over_for(Rank{rank}, number)) step.gone |= members & rank_bit(Rank{rank});
  }
  step.done = 0;
  std::fill(step.holds.begin(), step.holds.end(), Hold{});
  std::fill(step.sent.begin(), step.sent.end(), 0);
  return step;
}

void GangHolds::mark_over(Rank source, std::uint64_t number) {
  std::uint64_t& over = over_[index(source.value())];
  over = std::max(over, number);
}

void GangHolds::post(const HeldPost& post, GangRelease& release) {
  clear(release);
  check_rank(post.source);
  GIMBAL_CHECK(post.post >= 0);
  const RankSet source = rank_bit(post.source);
  if ((dead_ & source) != 0) {
    release.dropped.push_back(post.post);
    return;
  }
  if (post.step == kSolo || over_for(post.source, post.step)) {
    release.posts.push_back(post.post);
    return;
  }
  GIMBAL_CHECK((post.members & source) != 0, "a rank posts for a gang step of others");
  GIMBAL_CHECK(post.layer.value() >= 0 && post.layer.value() < options_.layers);
  Step& step = open(post.step, post.members);
  const int layer = post.layer.value();
  Hold& hold = step.holds[index(layer)];
  GIMBAL_CHECK((hold.posted & source) == 0 && !hold.complete,
               "a rank posts twice for one layer of a gang step");
  if (hold.posted == 0) {
    hold.deadline = post.deadline;
    next_deadline_ = std::min(next_deadline_, post.deadline);
  }
  hold.posted |= source;
  step.post[index(layer) * index(options_.ranks) + index(post.source.value())] = post.post;
  ++held_;
  if (++step.sent[index(post.source.value())] == options_.posts_per_member) {
    step.done |= source;
    mark_over(post.source, post.step);
  }
  complete_if_all_came(step, layer, release);
  forget_if_over(post.step);
}

void GangHolds::complete_if_all_came(Step& step, int layer, GangRelease& release) {
  Hold& hold = step.holds[index(layer)];
  if (hold.complete || (step.members & ~step.gone & ~hold.posted) != 0) return;
  hold.complete = true;
  const int first = static_cast<int>(release.posts.size());
  for (int rank = 0; rank < options_.ranks; ++rank) {
    if ((hold.posted & rank_bit(Rank{rank})) == 0) continue;
    release.posts.push_back(step.post[index(layer) * index(options_.ranks) + index(rank)]);
  }
  const int count = static_cast<int>(release.posts.size()) - first;
  held_ -= count;
  if (held_ == 0) next_deadline_ = TimePoint::max();
  release.holds.push_back(
      {.step = step.number, .layer = LayerIndex{layer}, .first = first, .count = count});
}

// The rank takes part no more: holds that waited for it alone are complete. Those that nobody has
// posted for are not begun.
void GangHolds::depart(Step& step, Rank rank, GangRelease& release) {
  step.gone |= rank_bit(rank);
  for (int layer = 0; layer < options_.layers; ++layer) {
    if (step.holds[index(layer)].posted != 0) complete_if_all_came(step, layer, release);
  }
}

void GangHolds::forget_if_over(std::uint64_t number) {
  const int found = find(number);
  const Step& step = steps_[index(found)];
  if ((step.members & ~step.gone & ~step.done) != 0) return;
  std::swap(steps_[index(found)], steps_[index(open_ - 1)]);
  --open_;
}

void GangHolds::leave(Rank source, std::uint64_t step, RankSet members, GangRelease& release) {
  clear(release);
  check_rank(source);
  const RankSet bit = rank_bit(source);
  if (step == kSolo || (dead_ & bit) != 0 || over_for(source, step)) return;
  GIMBAL_CHECK((members & bit) != 0, "a rank leaves a gang step of others");
  depart(open(step, members), source, release);
  mark_over(source, step);
  forget_if_over(step);
}

void GangHolds::dead(Rank rank, GangRelease& release) {
  clear(release);
  check_rank(rank);
  const RankSet bit = rank_bit(rank);
  if ((dead_ & bit) != 0) return;
  dead_ |= bit;
  for (int i = open_ - 1; i >= 0; --i) {  // from the end, as forgetting moves the last one here
    Step& step = steps_[index(i)];
    if ((step.members & bit) == 0) continue;
    for (int layer = 0; layer < options_.layers; ++layer) {
      Hold& hold = step.holds[index(layer)];
      if ((hold.posted & bit) == 0 || hold.complete) continue;
      hold.posted &= ~bit;
      release.dropped.push_back(
          step.post[index(layer) * index(options_.ranks) + index(rank.value())]);
      --held_;
    }
    depart(step, rank, release);
    forget_if_over(step.number);
  }
  if (held_ == 0) next_deadline_ = TimePoint::max();
}

void GangHolds::expire(TimePoint now, GangRelease& release) {
  clear(release);
  if (now < next_deadline_) return;
  for (int i = 0; i < open_; ++i)
    find_late(steps_[index(i)], now, release);
  for (const GangRelease::Late& late : release.late) {
    mark_over(late.rank, late.step);
    for (int i = 0; i < open_; ++i) {
      // Of older ones too: what it posts for them passes from now on.
      Step& step = steps_[index(i)];
      const bool takes_part = (step.members & ~step.gone & rank_bit(late.rank)) != 0;
      if (takes_part && step.number <= late.step) depart(step, late.rank, release);
    }
  }
  for (int i = open_ - 1; i >= 0; --i)  // from the end, as forgetting moves the last one here
    forget_if_over(steps_[index(i)].number);
  find_next_deadline();
}

void GangHolds::find_late(const Step& step, TimePoint now, GangRelease& release) const {
  RankSet late = 0;
  for (const Hold& hold : step.holds) {
    if (hold.posted != 0 && !hold.complete && hold.deadline <= now)
      late |= step.members & ~step.gone & ~hold.posted;
  }
  for (int rank = 0; rank < options_.ranks; ++rank) {
    if ((late & rank_bit(Rank{rank})) != 0)
      release.late.push_back({.rank = Rank{rank}, .step = step.number});
  }
}

void GangHolds::find_next_deadline() {
  next_deadline_ = TimePoint::max();
  for (int i = 0; i < open_; ++i) {
    for (const Hold& hold : steps_[index(i)].holds) {
      if (hold.posted != 0 && !hold.complete)
        next_deadline_ = std::min(next_deadline_, hold.deadline);
    }
  }
}

RankSet GangHolds::missing(std::uint64_t step, LayerIndex layer) const {
  const int found = find(step);
  if (found < 0) return 0;
  const Step& open = steps_[index(found)];
  const Hold& hold = open.holds[index(layer.value())];
  if (hold.posted == 0 || hold.complete) return 0;
  return open.members & ~open.gone & ~hold.posted;
}

}  // namespace gimbal::sched
