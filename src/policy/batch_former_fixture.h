#pragma once

#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "base/random.h"
#include "policy/batch_former.h"

namespace gimbal::policy {

// A decision worked out by hand. Sequences are written as
//   running: class (L, B), then d[@last step] for a decode or p<rows left>
//   waiting: class, rows, /pages, [@arrival]
// and the decision as r<index>=<rows> or w<index>=<rows>.
struct Case {
  std::string_view rule;
  std::string running;
  std::string waiting;
  std::string expected;
  int max_rows = 256;
  int max_sequences = 64;
  int free_pages = 1000;
  double owed = 0;
};

struct Scene {
  std::vector<RunningSequence> running;
  std::vector<WaitingRequest> waiting;
  BatchView view;
};

inline Scene scene_of(const Case& c) {
  Scene scene;
  std::istringstream running(c.running);
  for (std::string word; running >> word;) {
    RunningSequence sequence;
    sequence.best_effort = word[0] == 'B';
    if (word[1] == 'p') sequence.prefill_left = std::stoi(word.substr(2));
    if (const auto at = word.find('@'); at != std::string::npos) {
      sequence.last_served = std::stoull(word.substr(at + 1));
    }
    scene.view.backlog += sequence.prefill_left;
    scene.running.push_back(sequence);
  }
  std::istringstream waiting(c.waiting);
  for (std::string word; waiting >> word;) {
    WaitingRequest request;
    request.best_effort = word[0] == 'B';
    request.prefill = std::stoi(word.substr(1));
    request.pages = std::stoi(word.substr(word.find('/') + 1));
    if (const auto at = word.find('@'); at != std::string::npos) {
      request.arrival = TimePoint{Duration{std::stoi(word.substr(at + 1))}};
    }
    scene.view.backlog += request.prefill;
    scene.waiting.push_back(request);
  }
  scene.view.running = scene.running;
  scene.view.waiting = scene.waiting;
  scene.view.max_rows = c.max_rows;
  scene.view.max_sequences = c.max_sequences;
  scene.view.free_pages = c.free_pages;
  scene.view.best_effort_owed = c.owed;
  return scene;
}

inline std::string text_of(const BatchDecision& decision) {
  std::string text;
  for (const Grant& grant : decision.grants) {
    if (!text.empty()) text += " ";
    text += (grant.waiting ? "w" : "r") + std::to_string(grant.index) + "=" +
            std::to_string(grant.rows);
  }
  return text;
}

// Steps of 5 ms + 0.1 ms a prefill row + 0.5 ms a decode, and nothing else.
inline StepTimeModel known_times() {
  StepTimeModel times;
  Rng rng(3);
  for (int i = 0; i < 200; ++i) {
    StepShape step{.decodes = static_cast<double>(rng.below(20) + 1)};
    step.decode_context = static_cast<double>(rng.below(9'000));
    step.add_prefill(static_cast<double>(rng.below(999)), static_cast<double>(rng.below(300)));
    times.note(step, 5 + 0.1 * step.prefill + 0.5 * step.decodes, 0, 0);
  }
  return times;
}

}  // namespace gimbal::policy
